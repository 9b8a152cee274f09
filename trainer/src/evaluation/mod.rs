//! Evaluation of a checkpoint on labelled photos, with the engine that serves it: metrics, the confusion matrix, and the
//! prediction for each photo.

mod bootstrap;
mod calibration;
mod class_similarity;
mod confusion_matrix;
mod labelled_logits;
mod metrics;
mod predictions;
mod rejection;
mod temperature;

pub use bootstrap::{CONFIDENCE_LEVEL, Estimate, RESAMPLES, ResampledMeans, quantile};
pub use calibration::{Calibration, ReliabilityBin};
pub use class_similarity::ClassSimilarity;
pub use confusion_matrix::{ClassFigures, ConfusedPair, ConfusionMatrix};
pub use labelled_logits::LabelledLogits;
pub use metrics::{Evaluation, EvaluationSums};
pub use predictions::{EvaluationDetails, PhotoPrediction};
pub use rejection::{Rejection, rejection_threshold};
pub use temperature::{FittedTemperature, fit_temperature};

use crate::data::{DataLoader, SkippedSample};
use anyhow::Result;
use model::engine::{Engine, Input};
use pollster::block_on;

/// Classifies all labelled photos of the loader, or stops early if `should_stop` returns true. `visit` gets the index of each
/// sample, its logits, and its class. Returns the files that could not be decoded.
///
/// # Errors
/// Returns an error if the device fails.
pub fn classify_samples(
    engine: &Engine,
    loader: DataLoader,
    should_stop: impl Fn() -> bool,
    mut visit: impl FnMut(usize, &[f32], usize),
) -> Result<Vec<SkippedSample>> {
    let mut skipped = Vec::new();
    for batch in loader {
        if should_stop() {
            break;
        }
        skipped.extend(batch.skipped);
        if let Some(images) = batch.images {
            let logits = block_on(engine.run(&Input::Pixels(images), &[]))?.logits;
            for (row, (item, class)) in batch.items.iter().zip(&batch.classes).enumerate() {
                if let Some(class) = *class {
                    visit(item.index, logits.row(row), class);
                }
            }
        }
    }
    Ok(skipped)
}
