//! `trainer import`: anybody's weights into a checkpoint that explains itself.

use super::formats::{self, Exceptions, dtype_parser};
use super::names;
use super::weights_file::{open, save};
use crate::console;
use anyhow::{Result, ensure};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use model::architecture::Stem;
use model::checkpoint::{Checkpoint, Dtype, Metadata};
use model::preprocess::Interpolation;
use std::path::PathBuf;

/// Turn weights from PyTorch into a checkpoint with labels
///
/// IN is what torch.save wrote (.pth, .pt: a state dict, plain or inside a training checkpoint) or a safetensors file
/// with torchvision's tensor names. Nothing in it is executed. The architecture is read off the tensors. IN stays as
/// it is; an OUT that exists is replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// Weights to read: .pth, .pt or .safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Checkpoint to write: .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Say what the tensors cannot: resnet50_v1 has its strides on the first 1x1 convolutions (Caffe, Keras, the paper)
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Say what a 7x7 stem has for a stride, which its tensors do not show either
    #[arg(long, value_parser = stem_parser())]
    stem: Option<Stem>,
    /// Identifiers of the classes in order, one a line or a JSON list: n01440764
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Readable names of the classes in order, one a line or a JSON list: tench
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Take identifiers and readable names of the classes from another checkpoint
    #[arg(long, value_name = "CHECKPOINT")]
    names_from: Option<PathBuf>,
    /// How matrices are stored; by default as in IN
    #[arg(long, value_parser = dtype_parser())]
    dtype: Option<Dtype>,
    #[command(flatten)]
    exceptions: Exceptions,
    /// Where the weights come from and on what terms, in words
    #[arg(long, value_name = "TEXT")]
    provenance: Option<String>,
    /// Short side of a photo after resizing, in pixels (torchvision's V2 weights: 232)
    #[arg(long, value_name = "PIXELS")]
    resize: Option<u32>,
    /// Side of the square that is cut from the middle, in pixels
    #[arg(long, value_name = "PIXELS")]
    crop: Option<u32>,
    /// Filter of the resize
    #[arg(long, value_parser = interpolation_parser())]
    interpolation: Option<Interpolation>,
}

const EXAMPLES: &str = r"Examples:
  trainer import resnet18.pth resnet18.safetensors --labels names.txt
  trainer import resnet50_V2.pth resnet50.safetensors --resize 232 --dtype i8 \
      --names-from checkpoints/resnet50_v1-imagenet.safetensors
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
        let mut checkpoint = open(&self.input)?;
        if let Some(name) = &self.architecture {
            checkpoint = checkpoint.with_architecture(name)?;
        }
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let metadata = self.described(&checkpoint)?;
        if metadata.labels == Metadata::new(metadata.architecture).labels {
            console::note("the classes have no names but their index; --labels FILE gives them some");
        }
        let checkpoint = checkpoint.with_metadata(metadata)?;
        let checkpoint = formats::convert(&checkpoint, self.dtype, &self.exceptions)?;
        save(&checkpoint, &self.input, &self.output)?;
        console::print_result(&format!("{}: {}", self.output.display(), formats::summary(&checkpoint)))
    }

    /// What the file says of itself, and over it what the command line says.
    fn described(&self, checkpoint: &Checkpoint) -> Result<Metadata> {
        let mut metadata = checkpoint.metadata().clone();
        metadata.architecture.stem = self.stem.unwrap_or(metadata.architecture.stem);
        let count = metadata.architecture.classes;
        if let Some(path) = &self.names_from {
            let other = Checkpoint::from_path(path)?;
            let Metadata { classes, labels, .. } = other.metadata();
            let found = labels.len();
            ensure!(found == count, "{} names {found} classes, but the network has {count}", path.display());
            (metadata.classes, metadata.labels) = (classes.clone(), labels.clone());
        }
        if let Some(path) = &self.classes {
            let classes = names::read(path, count)?;
            // Labels that were no more readable than the identifiers follow them.
            if metadata.labels == metadata.classes {
                metadata.labels = classes.clone();
            }
            metadata.classes = classes;
        }
        if let Some(path) = &self.labels {
            metadata.labels = names::read(path, count)?;
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
