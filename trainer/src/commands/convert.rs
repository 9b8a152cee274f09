//! `trainer convert`: the same checkpoint, its numbers stored otherwise.

use super::formats::{self, Exceptions, dtype_parser};
use super::weights_file::{open, save};
use crate::console;
use anyhow::Result;
use clap::Args;
use model::checkpoint::Dtype;
use std::path::PathBuf;

/// Store a checkpoint's numbers in another format
///
/// f32 and f16 files load in PyTorch as they are; i8 is a quarter of f32, for the browser, and f32 or f16 turns it back.
/// Vectors and statistics of batch norms stay f32 in any case. IN stays as it is; an OUT that exists is replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Convert {
    /// Checkpoint to read
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Checkpoint to write: .safetensors
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// How matrices are stored
    #[arg(long, value_parser = dtype_parser())]
    dtype: Dtype,
    #[command(flatten)]
    exceptions: Exceptions,
}

const EXAMPLES: &str = "\
Examples:
  trainer convert resnet18.safetensors small.safetensors --dtype i8
  trainer convert resnet18.safetensors small.safetensors --dtype i8 --tensor conv1.weight=f16
  trainer convert small.safetensors for-pytorch.safetensors --dtype f32";

impl Convert {
    pub fn run(self) -> Result<()> {
        let checkpoint = open(&self.input)?;
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let checkpoint = formats::convert(&checkpoint, Some(self.dtype), &self.exceptions)?;
        save(&checkpoint, &self.input, &self.output)?;
        console::print_result(&format!("{}: {}", self.output.display(), formats::summary(&checkpoint)))
    }
}
