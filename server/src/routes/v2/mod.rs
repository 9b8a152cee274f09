//! The Open Inference Protocol, version 2, over HTTP: what Triton, KServe and their clients speak, with Triton's extensions for
//! binary data, classification, model configuration and the model repository.

pub mod health;
pub mod infer;
pub mod metadata;
mod numbers;
pub mod repository;
mod tensors;

pub use tensors::{Expected, parse};

use crate::app::App;
use crate::error::ApiError;
use crate::registry::Model;
use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use utoipa::ToSchema;

/// Names of the tensors.
pub const IMAGES: &str = "images";
pub const INPUT: &str = "input";
pub const LOGITS: &str = "logits";

/// Digits of a version that name it at least.
const DIGITS: usize = 8;

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub struct InferenceError {
    pub error: String,
}

/// An error as this protocol writes it.
pub struct Refused(ApiError);

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Refused(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.respond_with(|error| Json(InferenceError { error }).into_response())
    }
}

/// What a path names.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let path = path.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
        Ok(Path(path.0))
    }
}

/// The model of a name and, if one is given, of that version: its hash, or the beginning of it.
fn model(app: &App, name: &str, version: Option<&str>) -> Result<Arc<Model>, Refused> {
    let model = app.registry.get(Some(name))?;
    match version {
        Some(version) if version.len() < DIGITS || !model.id.version.starts_with(version) => {
            let served = &model.id.version;
            Err(ApiError::unknown_model(format!("{name:?} has no version {version:?}; it is {served}")).into())
        }
        _ => Ok(model),
    }
}
