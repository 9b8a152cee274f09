//! `trainer feature-maps`: pictures of what the layers of a network compute for a photo.

use super::arguments::DeviceArgs;
use crate::console;
use crate::feature_maps::{Content, Layer, MapFolder, NetworkOutputs, WrittenFile};
use crate::output_folder;
use crate::photos::{self, LIMITS};
use crate::weights_file::open_checkpoint;
use anyhow::{Context, Result, anyhow};
use checkpoints::CheckpointSource;
use clap::Args;
use model::classifier::PreparedPhoto;
use model::explain::ClassifierWeights;
use model::prediction::top_k;
use serde::Serialize;
use std::path::PathBuf;

/// Write the feature maps of layers, the filters of the first layer and class activation maps for a photo
///
/// For each layer, one PNG file shows all channels of its output as grey images, each scaled from its minimum to its maximum:
/// torchvision's save_image(maps[:, None], nrow=8, padding=2, normalize=True, scale_each=True). conv1.weight.png shows the
/// filters of the first layer as RGB images, scaled together (scale_each=False). The files cam-*.png show the class activation
/// maps of the most likely classes, painted on the part of the photo that the network sees.
///
/// Layers have torchvision's names. An output of a batch norm is the one before the ReLU. Outputs of stem, blocks and stages
/// are computed by --device, all others by Burn in f32: on the same device, or on flex for the devices cpu and webgpu.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct FeatureMaps {
    /// Photo
    photo: PathBuf,
    /// Checkpoint, or safetensors file with torchvision's tensor names; or one of the bundled checkpoints
    /// resnet18-imagenette and resnet50_v1-imagenet
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    /// Architecture, if the tensors do not determine it: resnet50_v1 has its strides in the first 1x1 convolutions
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Layer, such as stem, conv1, layer2, layer2.0 or layer2.0.downsample.1; may be repeated [default: stem and layer1 to
    /// layer4]
    #[arg(long = "layer", value_name = "NAME")]
    layers: Vec<String>,
    /// Number of classes with a class activation map; 0 for none
    #[arg(long, value_name = "N", default_value_t = 3)]
    top_k: u32,
    /// Output folder, new or empty
    #[arg(long, value_name = "FOLDER")]
    output: PathBuf,
    /// Also write the input, all values that the pictures show and the logits to values.safetensors, in f32
    #[arg(long)]
    values: bool,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Print JSON: the pictures with the shapes and ranges of their values
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer feature-maps cat.jpg --checkpoint resnet50_v1-imagenet --output maps
  trainer feature-maps cat.jpg --checkpoint mine.safetensors --layer layer1.0.conv1 --layer layer1.0.bn1 --output maps
  trainer feature-maps cat.jpg --checkpoint mine.safetensors --layer layer4 --values --json --output maps";

/// The output of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    /// The photo.
    file: String,
    checkpoint: String,
    architecture: String,
    pictures: &'a [WrittenFile],
    /// The file of `--values`.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<String>,
}

impl FeatureMaps {
    /// Writes all files.
    ///
    /// # Errors
    /// Returns an error if a layer is unknown, if the photo or the checkpoint cannot be read, or if a file cannot be written.
    pub fn run(self) -> Result<()> {
        let mut checkpoint = open_checkpoint(&self.checkpoint)?;
        if let Some(name) = &self.architecture {
            checkpoint = checkpoint.with_architecture(name)?;
        }
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let layers = Layer::find(&self.layers, &checkpoint.architecture())?;
        let context = || format!("cannot read {}", self.photo.display());
        let bytes =
            photos::read(&self.photo).map_err(|failure| anyhow!(failure.error.message)).with_context(context)?;
        let image = PreparedPhoto::from_bytes(&bytes, &LIMITS, checkpoint.metadata()).with_context(context)?.image;
        output_folder::create_empty(&self.output, "--output")?;

        let (device, options) = (self.device_args.device, self.device_args.into());
        let outputs = NetworkOutputs::compute(&checkpoint, &image, &layers, device, options)?;
        let classes = top_k(&outputs.logits, 0, checkpoint.metadata(), self.top_k as usize);
        let mut folder = MapFolder::new(&self.output);
        folder.write_filters(&checkpoint)?;
        outputs.layers.iter().try_for_each(|output| folder.write_layer(output))?;
        let weights = ClassifierWeights::from_checkpoint(&checkpoint);
        folder.write_activation_maps(&image, &outputs, &weights, classes)?;
        let values = self.values.then(|| folder.write_values(&image, &outputs)).transpose()?;
        let values = values.map(|path| path.display().to_string());

        if self.json {
            let (checkpoint, architecture) = (self.checkpoint.name(), checkpoint.architecture().name());
            let file = self.photo.display().to_string();
            let report = Report { file, checkpoint, architecture, pictures: &folder.written, values };
            return console::print_result(&serde_json::to_string_pretty(&report)?);
        }
        console::print_result(&table(&folder.written))?;
        values.map_or(Ok(()), |path| console::print_result(&format!("{path}  raw values")))
    }
}

fn table(files: &[WrittenFile]) -> String {
    let mut table = console::table();
    for WrittenFile { file, content, shape, minimum, maximum } in files {
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        let range = format!("{minimum:.3} to {maximum:.3}");
        table.add_row([file.clone(), description(content), shape.join(" x "), range]);
    }
    table.trim_fmt()
}

fn description(content: &Content) -> String {
    match content {
        Content::FeatureMaps { layer, device } => format!("feature maps of {layer} ({device})"),
        Content::Filters { tensor } => format!("filters {tensor}"),
        Content::ClassActivationMap { class, .. } => {
            format!("class activation map of {} ({:.1} %)", class.label, 100.0 * class.probability)
        }
    }
}
