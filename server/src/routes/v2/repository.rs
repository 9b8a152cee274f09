//! Models that come, change and go while the server runs: Triton's model repository, for who has the admin token.

use super::{InferenceError, Path, Refused};
use crate::app::App;
use crate::body;
use crate::error::ApiError;
use axum::Json;
use axum::extract::{Request, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Bytes of what comes with a change.
pub const LARGEST: usize = 16 << 10;

#[derive(Serialize, ToSchema)]
pub struct IndexEntry {
    name: String,
    /// The SHA-256 of its checkpoint, if it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// `READY`, `LOADING` (its engines get warm) or `UNAVAILABLE`.
    state: &'static str,
    /// Why it was not loaded when that was last tried.
    reason: String,
}

/// What may come with a load, which is nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[expect(dead_code, reason = "reading it refuses what it does not hold")]
struct LoadRequest {
    parameters: Option<LoadParameters>,
}

/// None: what Triton's clients can send instead of a model's configuration or files is refused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object without parameters")]
struct LoadParameters {}

/// What may come with an unload.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
#[expect(dead_code, reason = "reading it refuses what it does not hold")]
struct UnloadRequest {
    parameters: Option<UnloadParameters>,
}

#[derive(Deserialize, ToSchema)]
#[serde(expecting = "the parameters of an unload, an object")]
#[expect(dead_code, reason = "reading it refuses what it does not hold")]
struct UnloadParameters {
    /// Means nothing, for no model depends on another.
    unload_dependents: Option<bool>,
}

/// Every model that is served or could be
#[utoipa::path(
    post, path = "/v2/repository/index", tag = "Changing models", security(("admin token" = [])),
    responses(
        (status = OK, body = Vec<IndexEntry>), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError),
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

/// Load a model, or what its file holds now
///
/// It takes over when it is warm, with no request lost; a checkpoint that cannot be prepared changes nothing.
#[utoipa::path(
    post, path = "/v2/repository/models/{model}/load", tag = "Changing models", security(("admin token" = [])),
    params(("model" = String, Path, description = "the name of its file, without .safetensors")),
    request_body = Option<LoadRequest>,
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = REQUEST_TIMEOUT, body = InferenceError), (status = PAYLOAD_TOO_LARGE, body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "a body that is packed", body = InferenceError),
        (status = UNPROCESSABLE_ENTITY, description = "it cannot be prepared", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, body = InferenceError),
    )
)]
pub async fn load(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Result<(), Refused> {
    let words = "a model is loaded from its file as it lies, and no parameters are taken";
    read::<LoadRequest>(&app, request, words).await?;
    // Not given up when the client goes, for a change is made or it is not.
    let registry = app.registry.clone();
    let loading = tokio::spawn({
        let name = name.clone();
        async move { registry.load(&name).await }
    });
    match loading.await.map_err(ApiError::internal)? {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(ApiError::unknown_model(format!("there is no checkpoint for {name:?}")).into()),
        Err(error) => {
            tracing::warn!("model {name:?}: {error:#}");
            Err(ApiError::unprocessable(format!("{name:?} cannot be loaded: {error:#}")).into())
        }
    }
}

/// Take a model out of service
///
/// What it has begun it finishes.
#[utoipa::path(
    post, path = "/v2/repository/models/{model}/unload", tag = "Changing models", security(("admin token" = [])),
    params(("model" = String, Path, description = "as `/models` names it")),
    request_body = Option<UnloadRequest>,
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = REQUEST_TIMEOUT, body = InferenceError), (status = PAYLOAD_TOO_LARGE, body = InferenceError),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "a body that is packed", body = InferenceError),
        (status = SERVICE_UNAVAILABLE, body = InferenceError),
    )
)]
pub async fn unload(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Result<(), Refused> {
    read::<UnloadRequest>(&app, request, "a model is unloaded alone, and nothing need be sent").await?;
    if app.registry.unload(&name).await {
        Ok(())
    } else {
        Err(ApiError::unknown_model(format!("there is no model {name:?}")).into())
    }
}

/// What comes with a change, if anything does.
///
/// # Errors
/// What is wrong with it, and then these words.
async fn read<T: DeserializeOwned>(app: &App, request: Request, words: &str) -> Result<Option<T>, ApiError> {
    body::check(request.headers(), LARGEST)?;
    let share = app.in_flight.share();
    let body = body::whole(request, LARGEST, &share).await?;
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body).map_err(|error| ApiError::malformed(format!("{error}; {words}")))
}
