//! Triton's model repository extension: lists, loads and unloads models while the server runs. Requires the admin
//! token.

use super::error::InferenceError;
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::routes::path::Path;
use axum::Json;
use axum::extract::{Request, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Maximum size of a request body, in bytes.
pub const MAX_BODY_BYTES: usize = 16 << 10;

#[derive(Serialize, ToSchema)]
pub struct IndexEntry {
    name: String,
    /// SHA-256 of the checkpoint, if the model is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// `READY`, `LOADING` (the engines are warming up) or `UNAVAILABLE`.
    state: &'static str,
    /// Why the last attempt to load the model failed; empty otherwise.
    reason: String,
}

/// The body of a load request, which is optional and has no parameters.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[expect(dead_code, reason = "deserialized only to reject unknown fields")]
struct LoadRequest {
    parameters: Option<LoadParameters>,
}

/// No parameters are supported: those with which Triton's clients override the configuration or the files of a model
/// are rejected.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object without parameters")]
struct LoadParameters {}

/// The body of an unload request, which is optional.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[expect(dead_code, reason = "deserialized only to reject invalid values")]
struct UnloadRequest {
    parameters: Option<UnloadParameters>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of an unload request, an object")]
#[expect(dead_code, reason = "deserialized only to reject invalid values")]
struct UnloadParameters {
    /// Has no effect, because models do not depend on each other.
    unload_dependents: Option<bool>,
}

/// List all models that are served or can be loaded
#[utoipa::path(
    post, path = "/v2/repository/index", tag = "Model management", security(("admin token" = [])),
    responses(
        (status = OK, description = "the models and their states", body = Vec<IndexEntry>),
        (status = UNAUTHORIZED, description = "admin token missing", body = InferenceError),
        (status = FORBIDDEN, description = "invalid admin token, or none is configured", body = InferenceError),
    )
)]
pub async fn index(State(app): State<Arc<App>>) -> Json<Vec<IndexEntry>> {
    let entries = app.registry.index().await.into_iter().map(|entry| {
        let state = match &entry.model {
            Some(model) if model.batcher.is_ready() => "READY",
            Some(_) => "LOADING",
            None => "UNAVAILABLE",
        };
        let version = entry.model.map(|model| model.id.version.clone());
        let reason = entry.failure.unwrap_or_default();
        IndexEntry { name: entry.name, version, state, reason }
    });
    Json(entries.collect())
}

/// Load a model, or reload it from its checkpoint
///
/// The model replaces the previous version once it is warm; no request is lost. A checkpoint that cannot be loaded
/// changes nothing.
#[utoipa::path(
    post, path = "/v2/repository/models/{model}/load", tag = "Model management", security(("admin token" = [])),
    params(("model" = String, Path, description = "Name of the model, as listed by `/v2/repository/index`")),
    request_body = Option<LoadRequest>,
    responses(
        (status = OK, description = "the model is loaded"),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = UNAUTHORIZED, description = "admin token missing", body = InferenceError),
        (status = FORBIDDEN, description = "invalid admin token, or none is configured", body = InferenceError),
        (status = NOT_FOUND, description = "no checkpoint of this name", body = InferenceError),
        (status = REQUEST_TIMEOUT, description = "request body stalled", body = InferenceError),
        (status = PAYLOAD_TOO_LARGE, description = "request body too large", body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "compressed body", body = InferenceError),
        (status = UNPROCESSABLE_ENTITY, description = "the model cannot be loaded", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, description = "server overloaded; see Retry-After", body = InferenceError),
    )
)]
pub async fn load(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Result<(), ApiError> {
    let hint = "a model is always loaded from its checkpoint; load requests have no parameters";
    parse_body::<LoadRequest>(&app, request, hint).await?;
    // Spawned, so that a client that disconnects does not interrupt the change.
    let registry = app.registry.clone();
    let loading = tokio::spawn({
        let name = name.clone();
        async move { registry.load(&name).await }
    });
    match loading.await.map_err(ApiError::internal)? {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ApiError::unknown_model(format!("no checkpoint found for model {name:?}"))),
        Err(error) => {
            tracing::warn!("failed to load model {name:?}: {error:#}");
            Err(ApiError::unprocessable(format!("failed to load model {name:?}: {error:#}")))
        }
    }
}

/// Unload a model
///
/// Requests that the model is already processing are completed.
#[utoipa::path(
    post, path = "/v2/repository/models/{model}/unload", tag = "Model management", security(("admin token" = [])),
    params(("model" = String, Path, description = "Name of the model, as listed by `/models`")),
    request_body = Option<UnloadRequest>,
    responses(
        (status = OK, description = "the model is unloaded"),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = UNAUTHORIZED, description = "admin token missing", body = InferenceError),
        (status = FORBIDDEN, description = "invalid admin token, or none is configured", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model", body = InferenceError),
        (status = REQUEST_TIMEOUT, description = "request body stalled", body = InferenceError),
        (status = PAYLOAD_TOO_LARGE, description = "request body too large", body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "compressed body", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, description = "server overloaded; see Retry-After", body = InferenceError),
    )
)]
pub async fn unload(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Result<(), ApiError> {
    parse_body::<UnloadRequest>(&app, request, "unload requests need no body").await?;
    if app.registry.unload(&name).await {
        Ok(())
    } else {
        Err(ApiError::unknown_model(format!("unknown model {name:?}")))
    }
}

/// Parses the body of a request; `None` if it is empty.
///
/// # Errors
/// Returns an error that ends with `hint` if the body is invalid.
async fn parse_body<T: DeserializeOwned>(app: &App, request: Request, hint: &str) -> Result<Option<T>, ApiError> {
    body::check_headers(request.headers(), MAX_BODY_BYTES)?;
    let body = body::read_all(request, MAX_BODY_BYTES, &app.memory).await?;
    if body.bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body.bytes)
        .map_err(|error| ApiError::malformed(format!("invalid request: {error}; {hint}")))
}
