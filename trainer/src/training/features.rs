//! What the layers in front of the classifier make of photos, computed once: training the classifier alone then takes
//! seconds.

use super::interrupt::Interrupt;
use crate::data::{Dataset, EpochItem, DataLoader, Sample, SkippedSample, SampleLoader, LoaderThreads, Transform, sequential_batches};
use anyhow::{Result, ensure};
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::{Stage, Tap};
use pollster::block_on;
use std::sync::Arc;

/// Photos that go through the network at once.
const BATCH: usize = 16;

/// Of all photos of a dataset, as `predict` sees them.
pub struct Features {
    pub train: Rows,
    pub val: Rows,
}

/// By sample: `[features]`, unless its photo could not be decoded.
pub struct Rows(Vec<Option<Vec<f32>>>);

impl Features {
    /// By the checkpoint's layers; and the files that are no photos.
    ///
    /// # Errors
    /// If the device fails, if somebody interrupts, or if none of the photos could be decoded.
    pub fn compute(
        checkpoint: &Checkpoint,
        dataset: &Dataset,
        device: Device,
        threads: &LoaderThreads,
        interrupt: &Interrupt,
    ) -> Result<(Self, Vec<SkippedSample>)> {
        let engine = block_on(Engine::prepare_from(checkpoint, device, EngineOptions::default()))?;
        let mut skipped = Vec::new();
        let mut rows = |samples: &Arc<[Sample]>| -> Result<Rows> {
            let preprocessing = checkpoint.metadata().preprocessing.clone();
            let sample_loader = SampleLoader { samples: samples.clone(), preprocessing, transform: Transform::Eval, cache: None };
            let mut rows = vec![None; samples.len()];
            for batch in DataLoader::new(sample_loader, sequential_batches(samples.len(), BATCH), threads.clone()) {
                ensure!(!interrupt.is_raised(), "interrupted before the first step: there is nothing to go on from");
                skipped.extend(batch.skipped);
                let Some(images) = batch.images else { continue };
                let output = block_on(engine.run(&Input::Pixels(images), &[Tap::Stage(Stage::Four)]))?;
                let [_, channels, height, width] = output.kept[0].shape;
                let of_image = output.kept[0].values.chunks_exact(channels * height * width);
                for (item, values) in batch.items.iter().zip(of_image) {
                    let mean = |plane: &[f32]| plane.iter().sum::<f32>() / plane.len() as f32;
                    rows[item.index] = Some(values.chunks_exact(height * width).map(mean).collect());
                }
            }
            ensure!(rows.iter().any(Option::is_some), "none of the {} photos could be decoded", rows.len());
            Ok(Rows(rows))
        };
        let (train, val) = (rows(&dataset.train)?, rows(&dataset.val)?);
        Ok((Features { train, val }, skipped))
    }
}

impl Rows {
    /// Of the items that there are features of: these row by row, `[batch, features]`, and the items' classes.
    pub fn batch(&self, items: &[EpochItem], samples: &[Sample]) -> (Vec<f32>, Vec<usize>) {
        let there = items.iter().filter_map(|item| Some((self.0[item.index].as_ref()?, samples[item.index].class)));
        let (rows, classes): (Vec<_>, Vec<_>) = there.unzip();
        (rows.into_iter().flatten().copied().collect(), classes)
    }
}
