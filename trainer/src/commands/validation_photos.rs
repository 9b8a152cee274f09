//! Arguments that select the labelled photos on which a command runs a checkpoint.

use super::arguments::fraction;
use crate::console;
use crate::data::{DataLoader, Dataset, Sample, SkippedSample, evaluation_samples, loader_threads};
use anyhow::{Result, ensure};
use clap::Args;
use model::checkpoint::Metadata;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

/// Labelled photos on which a command runs a checkpoint.
#[derive(Args)]
pub struct ValidationPhotos {
    /// Folder with one folder per class, named after the checkpoint's classes; or a folder that contains these in val; or a
    /// folder of WebDataset shards val-*.tar
    #[arg(long, value_name = "FOLDER")]
    pub data: PathBuf,
    /// Use only the photos that a training run with this --val-split and --seed held out
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value = "0", requires = "val_split")]
    seed: u64,
    /// Batch size
    #[arg(long, value_name = "N", default_value = "16")]
    pub batch_size: NonZero<usize>,
}

impl ValidationPhotos {
    /// Starts to load the photos in order, preprocessed as for the checkpoint with this metadata.
    ///
    /// # Errors
    /// Returns an error if the photos cannot be listed, or if their classes are not those of the checkpoint.
    pub fn load(&self, metadata: &Metadata) -> Result<DataLoader> {
        let samples = self.samples(&metadata.classes)?;
        let (batch_size, threads) = (self.batch_size.get(), loader_threads(None)?);
        Ok(DataLoader::for_evaluation(samples, &metadata.preprocessing, batch_size, threads))
    }

    /// Lists the photos.
    ///
    /// # Errors
    /// Returns an error if the photos cannot be listed, or if their classes are not those of the checkpoint.
    pub fn samples(&self, classes: &[String]) -> Result<Arc<[Sample]>> {
        if self.val_split.is_none() {
            return Ok(evaluation_samples(&self.data, classes)?.into());
        }
        let dataset = Dataset::open(&self.data, self.val_split, self.seed, classes)?;
        ensure!(dataset.classes == classes, "{}: classes differ from those of the checkpoint", self.data.display());
        Ok(dataset.val)
    }
}

/// Prints a note about each file that could not be decoded.
pub fn report_skipped(skipped: &[SkippedSample]) {
    for SkippedSample { location, reason } in skipped {
        console::note(format_args!("skipped {location}: {reason}"));
    }
}
