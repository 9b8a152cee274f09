//! Every error that a client sees: a status, a code for programs, a sentence for people, as JSON.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use model::prediction::Failure;
use model::preprocess::PhotoError;

#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        ApiError { status, code, message: message.to_string() }
    }

    pub fn malformed(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", message)
    }

    pub fn nothing_to_classify(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "nothing_to_classify", message)
    }

    pub fn unknown_model(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_model", message)
    }

    pub fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub fn range_not_satisfiable(size: u64) -> Self {
        let message = format!("the range begins behind the end of {size} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message)
    }

    pub fn not_ready(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// The reason goes to the log, for it is none of the client's business.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!("{reason}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed; its log says why")
    }

    pub fn into_failure(self) -> Failure {
        Failure::new(self.code, self.message)
    }
}

/// Answers what no method of a known route answers.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.into_failure())).into_response()
    }
}

impl From<PhotoError> for ApiError {
    fn from(error: PhotoError) -> Self {
        let status = match error {
            PhotoError::Empty | PhotoError::PixelCount { .. } => StatusCode::BAD_REQUEST,
            PhotoError::TooManyBytes { .. } | PhotoError::TooManyPixels { .. } | PhotoError::TooMuchMemory { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            PhotoError::UnsupportedFormat => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            PhotoError::Undecodable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        ApiError::new(status, error.code(), error)
    }
}
