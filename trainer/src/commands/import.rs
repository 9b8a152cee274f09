//! `trainer import`: conversion of weights of other programs to a self-describing checkpoint.

use super::class_names;
use super::dtypes::{self, DtypeOverrides, dtype_parser};
use crate::console;
use crate::weights_file::{open_checkpoint, open_weights, save};
use anyhow::{Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use model::architecture::Stem;
use model::checkpoint::{Checkpoint, Dtype, Metadata};
use model::preprocess::Interpolation;
use std::path::PathBuf;

/// Import PyTorch weights or an ONNX file into a checkpoint with labels
///
/// IN is a file written by torch.save (.pth, .pt: a state dict, or a training checkpoint that contains one), a safetensors
/// file with torchvision's tensor names, or an ONNX file that torchvision, timm or `trainer export` exported. Code in it is never
/// executed. The architecture is inferred from the tensors or, in an ONNX file, from the graph. IN is not modified; an existing
/// OUT is replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// Weights to read: .pth, .pt, .safetensors or .onnx
    #[arg(value_name = "IN")]
    input: CheckpointSource,
    /// Checkpoint to write: .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Architecture, if the tensors do not determine it: resnet50_v1 has its strides in the first 1x1 convolutions (Caffe,
    /// Keras, the original paper)
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Stem, whose stride the tensors do not determine either: 2 in imagenet, 1 in imagenet-stride1
    #[arg(long, value_parser = stem_parser())]
    stem: Option<Stem>,
    /// File with the identifiers of the classes in order (n01440764), one per line or as a JSON list
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// File with the readable names of the classes in order (tench), one per line or as a JSON list
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Checkpoint to take the identifiers and readable names of the classes from: a file, or a bundled checkpoint, such as
    /// resnet50_v1-imagenet for ImageNet's 1000 classes
    #[arg(long, value_name = "FILE|NAME")]
    names_from: Option<CheckpointSource>,
    /// Format of the matrices [default: as in IN]
    #[arg(long, value_parser = dtype_parser())]
    dtype: Option<Dtype>,
    #[command(flatten)]
    overrides: DtypeOverrides,
    /// Source and licence of the weights, as free text
    #[arg(long, value_name = "TEXT")]
    provenance: Option<String>,
    /// Short side of a photo after resizing, in pixels (torchvision's V2 weights: 232)
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Side of the centre crop, in pixels
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Filter for resizing
    #[arg(long, value_parser = interpolation_parser())]
    interpolation: Option<Interpolation>,
}

const EXAMPLES: &str = r"Examples:
  trainer import resnet18.pth resnet18.safetensors --labels names.txt
  trainer import resnet50_V2.pth resnet50.safetensors --resize 232 --dtype i8 --names-from resnet50_v1-imagenet
  trainer import resnet50.onnx resnet50.safetensors --labels names.txt
  trainer import keras.safetensors resnet50.safetensors --architecture resnet50_v1
  trainer import resnet18.pth small.safetensors --dtype i8 --tensor conv1.weight=f16";

fn interpolation_parser() -> impl TypedValueParser<Value = Interpolation> {
    PossibleValuesParser::new(["bilinear", "bicubic"]).map(|name| match name.as_str() {
        "bicubic" => Interpolation::Bicubic,
        _ => Interpolation::Bilinear,
    })
}

fn stem_parser() -> impl TypedValueParser<Value = Stem> {
    PossibleValuesParser::new(["imagenet", "imagenet-stride1"]).map(|name| match name.as_str() {
        "imagenet-stride1" => Stem::ImagenetStride1,
        _ => Stem::Imagenet,
    })
}

impl Import {
    pub fn run(self) -> Result<()> {
        let mut checkpoint = open_weights(&self.input)?;
        if let Some(name) = &self.architecture {
            checkpoint = checkpoint.with_architecture(name)?;
        }
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let metadata = self.metadata(&checkpoint)?;
        if metadata.labels == Metadata::new(metadata.architecture).labels {
            console::note("classes have no labels except their indices; set them with --labels FILE");
        }
        let checkpoint = checkpoint.with_metadata(metadata)?;
        let checkpoint = dtypes::convert(&checkpoint, self.dtype, &self.overrides)?;
        save(&checkpoint, &self.input, &self.output)?;
        console::print_result(&format!("{}: {}", self.output.display(), dtypes::summary(&checkpoint)))
    }

    /// Returns the metadata of the file, with the changes of the command line.
    fn metadata(&self, checkpoint: &Checkpoint) -> Result<Metadata> {
        let mut metadata = checkpoint.metadata().clone();
        metadata.architecture.stem = self.stem.unwrap_or(metadata.architecture.stem);
        let count = metadata.architecture.classes;
        if let Some(source) = &self.names_from {
            let other = open_checkpoint(source)?;
            let Metadata { classes, labels, .. } = other.metadata();
            let actual = labels.len();
            ensure!(actual == count, "{source} has {actual} classes, but the network has {count}");
            (metadata.classes, metadata.labels) = (classes.clone(), labels.clone());
        }
        if let Some(path) = &self.classes {
            let classes = class_names::read(path, count)?;
            // Labels that equal the identifiers change with them.
            if metadata.labels == metadata.classes {
                metadata.labels = classes.clone();
            }
            metadata.classes = classes;
        }
        if let Some(path) = &self.labels {
            metadata.labels = class_names::read(path, count)?;
        }
        let preprocessing = &mut metadata.preprocessing;
        preprocessing.resize = self.resize.unwrap_or(preprocessing.resize);
        preprocessing.crop = self.crop.unwrap_or(preprocessing.crop);
        preprocessing.interpolation = self.interpolation.unwrap_or(preprocessing.interpolation);
        preprocessing.validate()?;
        if let Some(provenance) = &self.provenance {
            metadata.provenance = Some(provenance.clone());
        }
        Ok(metadata)
    }
}
