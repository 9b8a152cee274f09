//! `trainer convert`: conversion of a checkpoint to another number format.

use super::dtypes::{self, DtypeOverrides, dtype_parser};
use crate::console;
use crate::weights_file::{open_weights, save};
use anyhow::Result;
use checkpoints::CheckpointSource;
use clap::Args;
use model::checkpoint::Dtype;
use std::path::PathBuf;

/// Convert a checkpoint to another number format
///
/// f32 and f16 files load in PyTorch directly. i8 files have a quarter of the size of f32, for web pages, and can be converted
/// back to f32 or f16. Vectors and batch-norm statistics are always stored as f32. IN is not modified; an existing OUT is
/// replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Convert {
    /// Checkpoint, any file that `trainer import` reads, or name of a bundled checkpoint
    #[arg(value_name = "IN")]
    input: CheckpointSource,
    /// Checkpoint to write: .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the matrices
    #[arg(long, value_parser = dtype_parser())]
    dtype: Dtype,
    #[command(flatten)]
    overrides: DtypeOverrides,
}

const EXAMPLES: &str = "\
Examples:
  trainer convert resnet18.safetensors small.safetensors --dtype i8
  trainer convert resnet18.safetensors small.safetensors --dtype i8 --tensor conv1.weight=f16
  trainer convert small.safetensors for-pytorch.safetensors --dtype f32";

impl Convert {
    pub fn run(self) -> Result<()> {
        let checkpoint = open_weights(&self.input)?;
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let checkpoint = dtypes::convert(&checkpoint, Some(self.dtype), &self.overrides)?;
        save(&checkpoint, &self.input, &self.output)?;
        console::print_result(&format!("{}: {}", self.output.display(), dtypes::summary(&checkpoint)))
    }
}
