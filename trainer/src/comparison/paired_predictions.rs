//! Predictions of several checkpoints for the same photos.

use super::candidate::Candidate;
use crate::console;
use crate::data::{DataLoader, LoaderThreads, Sample, SkippedSample, loader_threads};
use crate::evaluation::{EvaluationDetails, PhotoPrediction};
use anyhow::{Context, Result, ensure};
use model::engine::{Device, Engine, EngineOptions};
use pollster::block_on;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

/// Device, engine options and batch size with which photos are classified.
#[derive(Clone, Copy)]
pub struct EngineSettings {
    pub device: Device,
    pub options: EngineOptions,
    pub batch_size: NonZero<usize>,
}

/// Predictions for the photos that were decoded for all candidates.
pub struct PairedPredictions {
    /// `[candidate][photo]`, in the order of the samples. Classes are those of the first candidate.
    pub by_candidate: Vec<Vec<PhotoPrediction>>,
    /// The other photos.
    pub skipped: Vec<SkippedSample>,
}

impl PairedPredictions {
    /// Classifies the samples, whose classes are those of the first candidate, with each candidate's preprocessing.
    ///
    /// # Errors
    /// Returns an error if the device fails, or if no photo could be decoded.
    pub fn compute(candidates: &[Candidate], samples: &[Sample], settings: EngineSettings) -> Result<Self> {
        let threads = loader_threads(None)?;
        let (mut by_candidate, mut skipped) = (Vec::new(), BTreeMap::new());
        for candidate in candidates {
            console::status(format_args!("classifying {} photos with {}", samples.len(), candidate.name));
            let details = evaluate(candidate, samples, settings, threads.clone());
            let details = details.with_context(|| format!("cannot evaluate {}", candidate.file))?;
            skipped.extend(details.skipped.into_iter().map(|skipped| (skipped.location, skipped.reason)));
            by_candidate.push(details.predictions);
        }
        // Preprocessing decodes only the part of a photo that it needs, so that a truncated file may be decoded for one
        // candidate but not for another.
        let is_decoded = |prediction: &PhotoPrediction| !skipped.contains_key(&samples[prediction.sample].location);
        by_candidate.iter_mut().for_each(|predictions| predictions.retain(is_decoded));
        ensure!(!by_candidate[0].is_empty(), "no photo could be decoded for all checkpoints");
        let skipped = skipped.into_iter().map(|(location, reason)| SkippedSample { location, reason }).collect();
        Ok(PairedPredictions { by_candidate, skipped })
    }
}

/// Classifies all samples with a candidate, and converts its classes to those of the first candidate.
fn evaluate(
    candidate: &Candidate,
    samples: &[Sample],
    settings: EngineSettings,
    threads: LoaderThreads,
) -> Result<EvaluationDetails> {
    let to_first = &candidate.class_indices;
    let mut from_first = vec![0; to_first.len()];
    to_first.iter().enumerate().for_each(|(own, &first)| from_first[first] = own);
    let samples: Arc<[Sample]> =
        samples.iter().map(|sample| Sample { class: from_first[sample.class], ..sample.clone() }).collect();

    let engine = block_on(Engine::prepare_from(&candidate.checkpoint, settings.device, settings.options))?;
    let metadata = candidate.checkpoint.metadata();
    let loader = DataLoader::for_evaluation(samples, &metadata.preprocessing, settings.batch_size.get(), threads);
    let mut details = EvaluationDetails::compute(&engine, loader, metadata, || false)?;
    for prediction in &mut details.predictions {
        prediction.class = to_first[prediction.class];
        prediction.top.iter_mut().for_each(|(class, _)| *class = to_first[*class]);
    }
    Ok(details)
}
