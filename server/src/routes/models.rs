//! `GET /models`: lists the served models and the URLs of their weights.

use crate::app::App;
use crate::registry::Model;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use model::preprocess::Preprocessing;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[schema(as = Models)]
pub struct ModelsResponse<'a> {
    /// The models, in the order in which they were configured or loaded.
    models: Vec<ModelDescription<'a>>,
    /// Models that could not be loaded at the last attempt. An earlier version may still be served.
    failures: Vec<LoadFailure>,
}

#[derive(Serialize, ToSchema)]
struct LoadFailure {
    /// Name of the model.
    name: String,
    /// Why it could not be loaded.
    error: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Description)]
struct ModelDescription<'a> {
    /// Name of the model, the value of `?model=`.
    name: &'a str,
    /// Whether this is the default model, which is used if a request names none, and which the page selects at first.
    default: bool,
    /// Torchvision's name of the architecture, with the suffix `_v1` if the stride is in the first convolution of a
    /// bottleneck.
    architecture: String,
    /// Number of classes.
    classes: usize,
    /// Human-readable class names by index, not necessarily unique.
    labels: &'a [String],
    input: ModelInput<'a>,
    /// Number by which logits are divided before softmax; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    /// Probability of the most likely class below which predictions should not be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejection_threshold: Option<f32>,
    /// Origin and licence of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<&'a str>,
    /// Size of the checkpoint, in bytes.
    bytes: usize,
    /// SHA-256 of the checkpoint, in hexadecimal.
    sha256: &'a str,
    /// Path of the checkpoint on this server.
    weights: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Input)]
struct ModelInput<'a> {
    /// Size of the input in pixels: `[height, width]`.
    size: [u32; 2],
    #[serde(flatten)]
    preprocessing: &'a Preprocessing,
}

/// List the models and their weights
#[utoipa::path(
    get, path = "/models", tag = "Models",
    responses((status = OK, description = "the served models", body = ModelsResponse))
)]
pub async fn models(State(app): State<Arc<App>>) -> impl IntoResponse {
    let served = app.registry.current();
    let models = served.iter().map(|model| ModelDescription::new(model, served.is_default(model))).collect();
    let failures = app.registry.failures().into_iter().map(|(name, error)| LoadFailure { name, error }).collect();
    ([(header::CACHE_CONTROL, "no-cache")], Json(ModelsResponse { models, failures })).into_response()
}

impl<'a> ModelDescription<'a> {
    fn new(model: &'a Model, default: bool) -> Self {
        let metadata = &model.metadata;
        let side = metadata.preprocessing.crop;
        ModelDescription {
            name: model.name(),
            default,
            architecture: metadata.architecture.name(),
            classes: metadata.labels.len(),
            labels: &metadata.labels,
            input: ModelInput { size: [side, side], preprocessing: &metadata.preprocessing },
            temperature: metadata.temperature,
            rejection_threshold: metadata.rejection_threshold,
            provenance: metadata.provenance.as_deref(),
            bytes: model.weights.len(),
            sha256: &model.id.version,
            weights: format!("/weights/{}", model.id.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, app_with_model, calibrated_model, get};
    use serde_json::json;

    #[tokio::test]
    async fn models_are_described_with_the_url_of_their_weights() {
        let mut small = get(&app(), "/models").await.json()["models"][0].take();
        let sha256 = small["sha256"].take();
        assert_eq!(small["weights"].take(), format!("/weights/{}", sha256.as_str().unwrap()));
        let expected = json!({
            "name": "small", "default": false, "architecture": "resnet18", "classes": 2, "labels": ["label 0", "label 1"],
            "input": {
                "size": [224, 224], "resize": 256, "crop": 224, "interpolation": "bilinear",
                "mean": small["input"]["mean"], "std": small["input"]["std"],
            },
            "bytes": 5, "sha256": null, "weights": null,
        });
        assert_eq!(small, expected);
    }

    #[tokio::test]
    async fn calibration_is_listed() {
        let models = get(&app_with_model(calibrated_model(2.0, 0.75)), "/models").await.json();
        assert_eq!(
            [&models["models"][0]["temperature"], &models["models"][0]["rejection_threshold"]],
            [&json!(2.0), &json!(0.75)]
        );
    }

    #[tokio::test]
    async fn one_model_is_the_default() {
        let models = get(&app(), "/models").await.json();
        assert_eq!([&models["models"][0]["default"], &models["models"][1]["default"]], [false, true]);
    }
}
