//! The prediction for each photo of an evaluation.

use super::confusion_matrix::ConfusionMatrix;
use super::metrics::{Evaluation, EvaluationSums, cross_entropy};
use crate::data::{DataLoader, SkippedSample};
use crate::learning::class_rank;
use anyhow::{Result, ensure};
use model::checkpoint::Metadata;
use model::engine::Engine;
use model::prediction::{probabilities, top_k_indices};

/// Number of the most likely classes that are kept for each photo.
const TOP: usize = 5;

/// The prediction for a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct PhotoPrediction {
    /// Index of the sample.
    pub sample: usize,
    /// Correct class.
    pub class: usize,
    /// The most likely classes with their probabilities, in descending order; at most five.
    pub top: Vec<(usize, f32)>,
    /// Probability of the correct class.
    pub class_probability: f32,
    /// Number of classes that are more likely than the correct one.
    pub rank: usize,
    /// Cross-entropy.
    pub loss: f64,
}

/// Metrics, confusion matrix and predictions of an evaluation.
pub struct EvaluationDetails {
    pub metrics: Evaluation,
    pub confusion: ConfusionMatrix,
    /// Predictions in the order of the samples.
    pub predictions: Vec<PhotoPrediction>,
    /// Files that could not be decoded.
    pub skipped: Vec<SkippedSample>,
}

impl PhotoPrediction {
    /// Creates the prediction of the model with this metadata from the logits of a sample.
    pub fn new(metadata: &Metadata, sample: usize, logits: &[f32], class: usize) -> Self {
        let probabilities = probabilities(metadata, logits);
        let top = top_k_indices(logits, TOP).into_iter().map(|index| (index, probabilities[index])).collect();
        let (class_probability, rank) = (probabilities[class], class_rank(logits, class));
        PhotoPrediction { sample, class, top, class_probability, rank, loss: cross_entropy(metadata, logits, class) }
    }

    /// Returns the most likely class.
    pub fn predicted(&self) -> usize {
        self.top[0].0
    }

    /// Returns the probability of the most likely class.
    pub fn confidence(&self) -> f32 {
        self.top[0].1
    }

    pub fn is_correct(&self) -> bool {
        self.predicted() == self.class
    }
}

impl EvaluationDetails {
    /// Classifies all photos of the loader with the engine of the checkpoint that has this metadata.
    ///
    /// # Errors
    /// Returns an error if the device fails, if no photo could be decoded, or if `should_stop` returns true.
    pub fn compute(
        engine: &Engine,
        loader: DataLoader,
        metadata: &Metadata,
        should_stop: impl Fn() -> bool,
    ) -> Result<Self> {
        let (mut sums, mut confusion, mut predictions) =
            (EvaluationSums::default(), ConfusionMatrix::new(metadata.architecture.classes), Vec::new());
        let skipped = super::classify_samples(engine, loader, &should_stop, |sample, logits, class| {
            sums.add(metadata, logits, class);
            let prediction = PhotoPrediction::new(metadata, sample, logits, class);
            confusion.add(class, prediction.predicted());
            predictions.push(prediction);
        })?;
        ensure!(!should_stop(), "interrupted");
        sums.skipped = skipped.len() as f64;
        Ok(EvaluationDetails { metrics: sums.means()?, confusion, predictions, skipped })
    }

    /// Returns the predictions of wrong classes, the most confident first.
    pub fn most_confident_errors(&self, limit: usize) -> Vec<&PhotoPrediction> {
        let mut errors: Vec<_> = self.predictions.iter().filter(|prediction| !prediction.is_correct()).collect();
        errors.sort_by(|a, b| b.confidence().total_cmp(&a.confidence()));
        errors.truncate(limit);
        errors
    }
}
