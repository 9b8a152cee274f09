//! `trainer evaluate`: how well a checkpoint does on photos whose class is known.

use super::arguments::{Processor, fraction};
use crate::console;
use crate::data::{Dataset, DataLoader, SampleLoader, Transform, sequential_batches, evaluation_samples, loader_threads};
use crate::training;
use anyhow::{Result, ensure};
use clap::Args;
use model::checkpoint::Checkpoint;
use model::engine::Engine;
use pollster::block_on;
use std::num::NonZero;
use std::path::PathBuf;

/// Measure top-1, top-5 and loss on photos whose class is known
///
/// Every photo is looked at once, as predict would; what cannot be read is said to be so and does not count.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    /// Weights to evaluate: a checkpoint of ours
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// A folder for each class, named as in the checkpoint's `classes`; or a folder that holds them in val, or in
    /// WebDataset shards val-*.tar
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Of class folders alone: the share of each class that a training with this --val-split, and this seed, kept apart
    #[arg(long, value_name = "SHARE", value_parser = fraction)]
    val_split: Option<f64>,
    /// Of that training
    #[arg(long, value_name = "N", default_value = "0", requires = "val_split")]
    seed: u64,
    /// Photos that are classified at once
    #[arg(long, value_name = "N", default_value = "16")]
    batch_size: NonZero<usize>,
    #[command(flatten)]
    processor: Processor,
    /// As JSON, with shares of 1
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer evaluate --checkpoint runs/finetune-1/best.safetensors --data photos
  trainer evaluate --checkpoint checkpoints/resnet18-imagenette.safetensors --data imagenette/val --json | jq .top1";

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let checkpoint = Checkpoint::from_path(&self.checkpoint)?;
        let classes = &checkpoint.metadata().classes;
        let samples = match self.val_split {
            None => evaluation_samples(&self.data, classes)?.into(),
            split => {
                let dataset = Dataset::open(&self.data, split, self.seed, classes)?;
                ensure!(dataset.classes == *classes, "{} holds other classes than the checkpoint", self.data.display());
                dataset.val
            }
        };
        let batches = sequential_batches(samples.len(), self.batch_size.get());
        let preprocessing = checkpoint.metadata().preprocessing.clone();
        let sample_loader = SampleLoader { samples, preprocessing, transform: Transform::Eval, cache: None };
        let engine = block_on(Engine::prepare_from(&checkpoint, self.processor.device, self.processor.into()))?;
        let loader = DataLoader::new(sample_loader, batches, loader_threads(None)?);
        // Nothing is left of an evaluation that is interrupted, so Ctrl-C ends it as it ends any program.
        let (counts, skipped) = training::count(&engine, loader, || false)?;
        for skipped in &skipped {
            console::note(format_args!("skipped {}: {}", skipped.location, skipped.reason));
        }
        let evaluation = counts.evaluation()?;
        if self.json {
            return console::print_result(&serde_json::to_string(&evaluation)?);
        }
        console::print_result(&format!("{evaluation}; {} photos, {} skipped", evaluation.photos, evaluation.skipped))
    }
}
