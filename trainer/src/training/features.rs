//! Features of all photos, the input of the classifier. They are computed once, so that training only the classifier
//! takes seconds.

use super::interrupt::Interrupt;
use crate::data::{DataLoader, Dataset, EpochItem, LoaderThreads, Sample, SkippedSample};
use anyhow::{Result, ensure};
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::{Stage, Tap};
use pollster::block_on;
use std::sync::Arc;

/// Batch size of the computation.
const BATCH: usize = 16;

/// Features of all photos of a dataset, preprocessed as for evaluation.
pub struct CachedFeatures {
    pub train: FeatureTable,
    pub val: FeatureTable,
}

/// One row `[features]` per sample, or `None` if its photo could not be decoded.
pub struct FeatureTable(Vec<Option<Vec<f32>>>);

impl CachedFeatures {
    /// Computes the features with the checkpoint's layers. Also returns the files that could not be decoded. `progress` gets
    /// the number of photos of each batch, after it has been processed.
    ///
    /// # Errors
    /// Returns an error if the device fails, if the run is interrupted, or if none of the photos could be decoded.
    pub fn compute(
        checkpoint: &Checkpoint,
        dataset: &Dataset,
        device: Device,
        threads: &LoaderThreads,
        interrupt: &Interrupt,
        progress: impl Fn(usize),
    ) -> Result<(Self, Vec<SkippedSample>)> {
        let engine = block_on(Engine::prepare_from(checkpoint, device, EngineOptions::default()))?;
        let mut skipped = Vec::new();
        let mut compute = |samples: &Arc<[Sample]>| -> Result<FeatureTable> {
            let mut rows = vec![None; samples.len()];
            let preprocessing = &checkpoint.metadata().preprocessing;
            for batch in DataLoader::for_evaluation(samples.clone(), preprocessing, BATCH, threads.clone()) {
                ensure!(!interrupt.is_raised(), "interrupted before the first step; no state was saved");
                let photos = batch.items.len() + batch.skipped.len();
                skipped.extend(batch.skipped);
                if let Some(images) = batch.images {
                    let output = block_on(engine.run(&Input::Pixels(images), &[Tap::Stage(Stage::Four)]))?;
                    let [_, channels, height, width] = output.activations[0].shape;
                    let per_image = output.activations[0].values.chunks_exact(channels * height * width);
                    for (item, values) in batch.items.iter().zip(per_image) {
                        let mean = |plane: &[f32]| plane.iter().sum::<f32>() / plane.len() as f32;
                        rows[item.index] = Some(values.chunks_exact(height * width).map(mean).collect());
                    }
                }
                progress(photos);
            }
            ensure!(rows.iter().any(Option::is_some), "none of the {} photos could be decoded", rows.len());
            Ok(FeatureTable(rows))
        };
        let (train, val) = (compute(&dataset.train)?, compute(&dataset.val)?);
        Ok((CachedFeatures { train, val }, skipped))
    }
}

impl FeatureTable {
    /// Returns the features `[batch, features]` and the classes of those items that could be decoded.
    pub fn batch(&self, items: &[EpochItem], samples: &[Sample]) -> (Vec<f32>, Vec<usize>) {
        let decoded = items.iter().filter_map(|item| Some((self.0[item.index].as_ref()?, samples[item.index].class)));
        let (rows, classes): (Vec<_>, Vec<_>) = decoded.unzip();
        (rows.into_iter().flatten().copied().collect(), classes)
    }
}
