//! Whether server and models are there.

use super::{InferenceError, Path, Refused, model};
use crate::app::App;
use crate::error::ApiError;
use crate::routes::health::{liveness, readiness};
use axum::extract::State;
use std::sync::Arc;

/// Whether the server does its work
#[utoipa::path(
    get, path = "/v2/health/live", tag = "Open Inference Protocol",
    responses((status = OK), (status = SERVICE_UNAVAILABLE, body = InferenceError))
)]
pub async fn live(State(app): State<Arc<App>>) -> Result<(), Refused> {
    Ok(liveness(&app)?)
}

/// Whether every model would answer
#[utoipa::path(
    get, path = "/v2/health/ready", tag = "Open Inference Protocol",
    responses((status = OK), (status = SERVICE_UNAVAILABLE, body = InferenceError))
)]
pub async fn ready(State(app): State<Arc<App>>) -> Result<(), Refused> {
    Ok(readiness(&app)?)
}

/// Whether a model would answer
#[utoipa::path(
    get, path = "/v2/models/{model}/ready", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "as `/models` names it")),
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = SERVICE_UNAVAILABLE, body = InferenceError),
    )
)]
pub async fn model_ready(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<(), Refused> {
    is_ready(&app, &name, None)
}

/// Whether a version of a model would answer
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}/ready", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "as `/models` names it"),
        ("version" = String, Path, description = "its SHA-256, or the beginning of it"),
    ),
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = SERVICE_UNAVAILABLE, body = InferenceError),
    )
)]
pub async fn version_ready(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<(), Refused> {
    is_ready(&app, &name, Some(&version))
}

fn is_ready(app: &App, name: &str, version: Option<&str>) -> Result<(), Refused> {
    if model(app, name, version)?.batcher.is_ready() {
        Ok(())
    } else {
        Err(ApiError::not_ready(format!("{name:?} is not ready")).into())
    }
}
