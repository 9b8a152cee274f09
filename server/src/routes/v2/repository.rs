//! Models that come, change and go while the server runs: Triton's model repository, for who has the admin token.

use super::{InferenceError, Path, Refused};
use crate::app::App;
use crate::error::ApiError;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

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
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
        (status = UNPROCESSABLE_ENTITY, description = "it cannot be prepared", body = InferenceError),
    )
)]
pub async fn load(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<(), Refused> {
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
    responses(
        (status = OK), (status = BAD_REQUEST, body = InferenceError), (status = UNAUTHORIZED, body = InferenceError),
        (status = FORBIDDEN, body = InferenceError), (status = NOT_FOUND, body = InferenceError),
    )
)]
pub async fn unload(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<(), Refused> {
    if app.registry.unload(&name).await {
        Ok(())
    } else {
        Err(ApiError::unknown_model(format!("there is no model {name:?}")).into())
    }
}
