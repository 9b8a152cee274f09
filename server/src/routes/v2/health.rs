//! Liveness and readiness of the server and its models.

use super::error::InferenceError;
use crate::app::App;
use crate::error::ApiError;
use crate::inference;
use crate::routes::health::{check_liveness, check_readiness};
use crate::routes::path::Path;
use axum::extract::State;
use std::sync::Arc;

/// Check whether the server is alive
#[utoipa::path(
    get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses(
        (status = OK, description = "all engines are running"),
        (status = SERVICE_UNAVAILABLE, description = "an engine has stopped", body = InferenceError),
    )
)]
pub async fn live(State(app): State<Arc<App>>) -> Result<(), ApiError> {
    check_liveness(&app)
}

/// Check whether all models are ready
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "Open Inference Protocol",
    responses(
        (status = OK, description = "all models are ready"),
        (status = SERVICE_UNAVAILABLE, description = "a model is missing or not ready, or the server is shutting down",
            body = InferenceError),
    )
)]
pub async fn ready(State(app): State<Arc<App>>) -> Result<(), ApiError> {
    check_readiness(&app)
}

/// Check whether a model is ready
#[utoipa::path(
    get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of the model, as listed by `/models`")),
    responses(
        (status = OK, description = "the model is ready"),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, description = "the model is not ready", body = InferenceError),
    )
)]
pub async fn model_ready(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<(), ApiError> {
    check_model_readiness(&app, &name, None)
}

/// Check whether a version of a model is ready
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}/ready", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "Name of the model, as listed by `/models`"),
        ("version" = String, Path, description = "SHA-256 of the checkpoint, or at least its first eight digits; `1` is the current version"),
    ),
    responses(
        (status = OK, description = "the model is ready"),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model or version", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, description = "the model is not ready", body = InferenceError),
    )
)]
pub async fn version_ready(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<(), ApiError> {
    check_model_readiness(&app, &name, Some(&version))
}

fn check_model_readiness(app: &App, name: &str, version: Option<&str>) -> Result<(), ApiError> {
    if inference::find_model(&app.registry, Some(name), version)?.batcher.is_ready() {
        Ok(())
    } else {
        Err(ApiError::not_ready(format!("model {name:?} is not ready")))
    }
}
