//! `trainer evaluate`: metrics of a checkpoint on labelled photos.

use super::arguments::{DeviceArgs, fraction};
use crate::console;
use crate::data::{
    DataLoader, Dataset, SampleLoader, Transform, evaluation_samples, loader_threads, sequential_batches,
};
use crate::training;
use crate::weights_file::open_checkpoint;
use anyhow::{Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use model::engine::Engine;
use pollster::block_on;
use std::num::NonZero;
use std::path::PathBuf;

/// Evaluate a checkpoint on labelled photos: top-1, top-5 and loss
///
/// Photos are preprocessed as by `trainer predict`. Unreadable files are reported and skipped.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    /// Checkpoint to evaluate: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    /// Folder with one folder per class, named after the checkpoint's classes; or a folder that contains these in val; or a
    /// folder of WebDataset shards val-*.tar
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Evaluate on the photos that a training run with this --val-split and --seed held out
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value = "0", requires = "val_split")]
    seed: u64,
    /// Batch size
    #[arg(long, value_name = "N", default_value = "16")]
    batch_size: NonZero<usize>,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Print one line of JSON, with top-1 and top-5 as fractions
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer evaluate --checkpoint runs/finetune-1/best.safetensors --data photos
  trainer evaluate --checkpoint resnet18-imagenette --data imagenette/val --json | jq .top1";

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let checkpoint = open_checkpoint(&self.checkpoint)?;
        let classes = &checkpoint.metadata().classes;
        let samples = match self.val_split {
            None => evaluation_samples(&self.data, classes)?.into(),
            split => {
                let dataset = Dataset::open(&self.data, split, self.seed, classes)?;
                ensure!(
                    dataset.classes == *classes,
                    "{}: classes differ from those of the checkpoint",
                    self.data.display()
                );
                dataset.val
            }
        };
        let batches = sequential_batches(samples.len(), self.batch_size.get());
        let preprocessing = checkpoint.metadata().preprocessing.clone();
        let sample_loader = SampleLoader { samples, preprocessing, transform: Transform::Eval, cache: None };
        let engine = block_on(Engine::prepare_from(&checkpoint, self.device_args.device, self.device_args.into()))?;
        let loader = DataLoader::new(sample_loader, batches, loader_threads(None)?);
        // There is nothing to save on Ctrl-C, so its default behaviour is kept.
        let (sums, skipped) = training::evaluate(&engine, loader, || false)?;
        for skipped in &skipped {
            console::note(format_args!("skipped {}: {}", skipped.location, skipped.reason));
        }
        let evaluation = sums.means()?;
        if self.json {
            return console::print_result(&serde_json::to_string(&evaluation)?);
        }
        console::print_result(&format!("{evaluation}; {} photos, {} skipped", evaluation.photos, evaluation.skipped))
    }
}
