//! Inference on the served models, as all routes perform it: find the model, queue the images, wait for the outputs,
//! map errors.

use crate::batching::{InferenceFailure, InferenceOutput, PendingOutput};
use crate::error::ApiError;
use crate::registry::{Model, Registry};
use futures_util::future::try_join_all;
use model::engine::{EngineError, Input};
use model::explain::{ActivationMap, ClassifierWeights};
use model::plan::Tap;
use model::prediction::Timing;
use std::sync::Arc;
use std::time::Duration;

/// Taps whose activations [`explain`] needs.
pub const EXPLANATION_TAPS: &[Tap] = &[ClassifierWeights::TAP];

/// Alias of the current version, which clients of other servers expect.
const CURRENT_VERSION: &str = "1";

/// Minimum number of digits of a SHA-256 that identify a version.
const MIN_VERSION_DIGITS: usize = 8;

/// Returns the model of this name, or the default model.
///
/// # Errors
/// Returns 404 if there is no such model, or if it is not of `version`: its SHA-256, or at least the first eight
/// digits, or `1` for the current one.
pub fn find_model(registry: &Registry, name: Option<&str>, version: Option<&str>) -> Result<Arc<Model>, ApiError> {
    let model = registry.get(name)?;
    match version {
        Some(CURRENT_VERSION) => Ok(model),
        Some(version) if version.len() < MIN_VERSION_DIGITS || !model.id.version.starts_with(version) => {
            let (name, served) = (model.name(), &model.id.version);
            Err(ApiError::unknown_model(format!(
                "model {name:?} has no version {version:?}; its version is {served}, or 1 for the current one"
            )))
        }
        _ => Ok(model),
    }
}

/// Checks that the queue of a model has room for this number of images, so that no photos are decoded in vain.
///
/// # Errors
/// Returns 503 if the queue has no room.
pub fn check_queue(model: &Model, images: usize) -> Result<(), ApiError> {
    if model.batcher.is_full(images) { Err(api_error(model, InferenceFailure::QueueFull)) } else { Ok(()) }
}

/// Queues all images, and returns their outputs in the same order, each with its activations at `taps`.
///
/// # Errors
/// Returns [`InferenceFailure::QueueFull`] at once if the queue has no room for all images, and the first error of an
/// image otherwise.
pub async fn run(
    model: &Model,
    images: impl IntoIterator<Item = Input>,
    taps: &'static [Tap],
) -> Result<Vec<InferenceOutput>, InferenceFailure> {
    let pending = model.batcher.submit(images, taps)?;
    try_join_all(pending.into_iter().map(PendingOutput::wait)).await
}

/// Maps an error of [`run`].
pub fn api_error(model: &Model, error: InferenceFailure) -> ApiError {
    match error {
        InferenceFailure::QueueFull => ApiError::overloaded("inference queue is full; retry later"),
        InferenceFailure::Engine(EngineError::InvalidInput(reason)) => ApiError::unprocessable(reason),
        error => ApiError::internal(format_args!("model {:?}: {error}", model.name())),
    }
}

/// Returns the class activation map of a class, for an output with the activations of [`EXPLANATION_TAPS`]; `None`
/// without them.
pub fn explain(model: &Model, output: &InferenceOutput, class: usize) -> Option<ActivationMap> {
    output.activations.first().map(|activation| model.class_weights.cam(activation, 0, class).relu_normalised())
}

/// Returns the durations of the phases. Photos are decoded and preprocessed; both take no time for tensors.
pub fn timing(decode_ms: f64, preprocess_ms: f64, queue: Duration, inference: Duration) -> Timing {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    Timing::new(decode_ms, preprocess_ms, milliseconds(queue), milliseconds(inference))
}

/// Returns the timing of the slowest image, or zeros if there is none.
pub fn slowest(timings: impl Iterator<Item = Timing>) -> Timing {
    timings.max_by(|one, other| one.total.total_cmp(&other.total)).unwrap_or_default()
}
