//! The result of a comparison.

use super::agreement::Agreement;
use super::candidate::{Candidate, ClassName};
use super::disagreement::{self, Disagreement};
use super::paired_predictions::{EngineSettings, PairedPredictions};
use super::timing::{self, DeviceTiming};
use crate::data::{Sample, SkippedSample};
use crate::evaluation::{CONFIDENCE_LEVEL, ConfusionMatrix, Estimate, PhotoPrediction, RESAMPLES, ResampledMeans};
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// The result of a comparison. Accuracies and recalls are fractions.
#[derive(Serialize)]
pub struct Comparison {
    /// Folder of the photos.
    pub data: String,
    /// Name of the device that computed the predictions.
    pub device: String,
    pub precision: String,
    /// Number of photos that all checkpoints classified.
    pub photos: usize,
    /// Number of files that could not be decoded for all checkpoints.
    pub skipped: usize,
    pub skipped_files: Vec<SkippedSample>,
    /// Confidence level of all intervals, and the number of resamples that they were computed from.
    pub confidence_level: f64,
    pub resamples: usize,
    pub checkpoints: Vec<CheckpointResult>,
    /// Classes with photos.
    pub classes: Vec<ClassRecall>,
    /// Empty if times were not measured.
    pub timings: Vec<DeviceTiming>,
    /// Photos that not all checkpoints classified as the same class, those with the largest difference in the
    /// probability of the correct class first.
    pub disagreements: Vec<Disagreement>,
}

/// Accuracy and size of a checkpoint.
#[derive(Serialize)]
pub struct CheckpointResult {
    /// Name that distinguishes the checkpoint from the others.
    pub name: String,
    /// Path, or name of a bundled checkpoint.
    pub file: String,
    pub architecture: String,
    /// Number of trainable parameters.
    pub parameters: usize,
    /// Number of multiply-adds for one image of the network's input size.
    pub multiply_adds: u64,
    /// Height and width of the network's input, in pixels.
    pub input_size: u32,
    /// Size of the file, in bytes.
    pub file_bytes: u64,
    pub metrics: Metrics<Estimate>,
    /// Comparison with the first checkpoint; `None` for the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versus_first: Option<VersusFirst>,
}

/// Means over all photos.
#[derive(Clone, Copy, Serialize)]
pub struct Metrics<T> {
    /// Fraction of photos whose most likely class is correct.
    pub top1: T,
    /// Fraction of photos whose class is among the five most likely ones.
    pub top5: T,
    /// Mean cross-entropy.
    pub loss: T,
}

/// Comparison of a checkpoint with the first one.
#[derive(Serialize)]
pub struct VersusFirst {
    /// Metrics of the checkpoint minus those of the first one.
    pub difference: Metrics<Difference>,
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// A difference of two means over the same photos.
#[derive(Clone, Copy, Serialize)]
pub struct Difference {
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Whether zero is outside of the confidence interval.
    pub excludes_zero: bool,
}

/// Recall of a class.
#[derive(Serialize)]
pub struct ClassRecall {
    #[serde(flatten)]
    pub name: ClassName,
    /// Number of photos of the class.
    pub support: u32,
    /// Fraction of these photos that each checkpoint classified correctly.
    pub recall: Vec<f64>,
}

impl Comparison {
    /// Classifies the samples with each candidate. The classes of the samples are those of the first candidate.
    ///
    /// # Errors
    /// Returns an error if a device fails, or if no photo could be decoded.
    pub fn compute(
        candidates: &[Candidate],
        data: &Path,
        samples: &[Sample],
        settings: EngineSettings,
    ) -> Result<Comparison> {
        let PairedPredictions { by_candidate, skipped } = PairedPredictions::compute(candidates, samples, settings)?;
        let names = candidates[0].class_names();
        Ok(Comparison {
            data: data.display().to_string(),
            device: settings.device.to_string(),
            precision: settings.options.precision.to_string(),
            photos: by_candidate[0].len(),
            skipped: skipped.len(),
            skipped_files: skipped,
            confidence_level: CONFIDENCE_LEVEL,
            resamples: RESAMPLES,
            checkpoints: checkpoint_results(candidates, &by_candidate),
            classes: class_recalls(&names, &by_candidate),
            timings: Vec::new(),
            disagreements: disagreement::find(&by_candidate, samples, &names),
        })
    }

    /// Adds the times per photo on each device of this machine.
    ///
    /// # Errors
    /// Returns an error if a device fails.
    pub fn measure_times(&mut self, candidates: &[Candidate], settings: EngineSettings) -> Result<()> {
        self.timings = timing::measure(candidates, settings)?;
        Ok(())
    }

    /// Returns the location of a photo relative to the folder of the photos.
    pub fn relative_file(&self, disagreement: &Disagreement) -> String {
        let file = disagreement.file.to_string();
        let relative = file.strip_prefix(&self.data).map(|rest| rest.trim_start_matches(['/', '\\']).to_owned());
        relative.unwrap_or(file)
    }
}

fn checkpoint_results(candidates: &[Candidate], by_candidate: &[Vec<PhotoPrediction>]) -> Vec<CheckpointResult> {
    let means =
        ResampledMeans::new(&by_candidate.iter().flat_map(|predictions| statistics(predictions)).collect::<Vec<_>>());
    let metrics = |index: usize| Metrics::from_statistics(index, |statistic| means.mean(statistic));
    let difference = |index: usize| {
        Metrics::from_statistics(index, |statistic| {
            let estimate = means.difference(statistic, statistic - index * STATISTICS);
            Difference { estimate, excludes_zero: estimate.excludes_zero() }
        })
    };
    let result = |(index, candidate): (usize, &Candidate)| {
        let metadata = candidate.checkpoint.metadata();
        let versus_first = (index > 0).then(|| VersusFirst {
            difference: difference(index),
            agreement: Agreement::new(&by_candidate[0], &by_candidate[index]),
        });
        CheckpointResult {
            name: candidate.name.clone(),
            file: candidate.file.clone(),
            architecture: metadata.architecture.to_string(),
            parameters: metadata.architecture.parameter_count(),
            multiply_adds: metadata.architecture.multiply_adds(metadata.preprocessing.crop as usize),
            input_size: metadata.preprocessing.crop,
            file_bytes: candidate.file_bytes,
            metrics: metrics(index),
            versus_first,
        }
    };
    candidates.iter().enumerate().map(result).collect()
}

/// Number of statistics of each checkpoint: one for each field of [`Metrics`].
const STATISTICS: usize = 3;

/// Returns the statistics of each photo whose means are the [`Metrics`], in the order of the fields.
fn statistics(predictions: &[PhotoPrediction]) -> [Vec<f64>; STATISTICS] {
    let hits = |k: usize| predictions.iter().map(|prediction| f64::from(u8::from(prediction.rank < k))).collect();
    [hits(1), hits(5), predictions.iter().map(|prediction| prediction.loss).collect()]
}

impl<T> Metrics<T> {
    /// Creates the metrics of a checkpoint from the indices of its statistics.
    fn from_statistics(checkpoint: usize, of: impl Fn(usize) -> T) -> Self {
        let [top1, top5, loss] = [0, 1, 2].map(|statistic| of(checkpoint * STATISTICS + statistic));
        Metrics { top1, top5, loss }
    }
}

fn class_recalls(names: &[ClassName], by_candidate: &[Vec<PhotoPrediction>]) -> Vec<ClassRecall> {
    let figures = by_candidate.iter().map(|predictions| {
        let mut confusion = ConfusionMatrix::new(names.len());
        predictions.iter().for_each(|prediction| confusion.add(prediction.class, prediction.predicted()));
        confusion.class_figures()
    });
    let figures: Vec<_> = figures.collect();
    let recall = |(class, name): (usize, &ClassName)| ClassRecall {
        name: name.clone(),
        support: figures[0][class].support,
        recall: figures.iter().map(|figures| figures[class].recall).collect(),
    };
    names.iter().enumerate().map(recall).filter(|class| class.support > 0).collect()
}
