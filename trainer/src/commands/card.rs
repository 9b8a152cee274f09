//! `trainer card`: a model card for Hugging Face.

use crate::console;
use crate::export::{CARD, write_card};
use crate::weights_file::open_checkpoint;
use anyhow::{Context, Result};
use checkpoints::CheckpointSource;
use clap::Args;
use std::fs;
use std::path::PathBuf;

/// Write a model card for Hugging Face: labels, preprocessing, measured figures, and code that loads the model
///
/// The card refers to the files that `trainer export --format hub` writes together with it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Card {
    /// Checkpoint to describe: a file, or name of a bundled checkpoint
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: CheckpointSource,
    /// Folder for README.md, which is created if necessary
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Name of the model [default: name of the checkpoint]
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  trainer card runs/finetune-1/best.safetensors --output card --name flowers";

impl Card {
    pub fn run(self) -> Result<()> {
        let checkpoint = open_checkpoint(&self.checkpoint)?;
        fs::create_dir_all(&self.output).with_context(|| format!("cannot create {}", self.output.display()))?;
        let name = self.name.unwrap_or_else(|| self.checkpoint.name());
        write_card(&name, &checkpoint, &self.output)?;
        console::print_result(&self.output.join(CARD).display().to_string())
    }
}
