//! Errors as clients see them: an HTTP status, a code for programs and a message for people, as JSON.
//!
//! Protocols with another error format rewrite the response; [`ErrorDetails`] has what they need.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::prediction::Failure;
use model::preprocess::PhotoError;
use std::time::Duration;

/// Value of `Retry-After` with 503, in seconds.
const RETRY_AFTER: &str = "1";

/// Code of errors for bodies in unsupported encodings.
const UNSUPPORTED_ENCODING: &str = "unsupported_encoding";

/// Maximum length of a message, in bytes.
const MAX_MESSAGE_BYTES: usize = 1000;

/// An error to respond with.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    code: &'static str,
    message: String,
}

/// Response extension set for every [`ApiError`].
#[derive(Clone, Debug)]
pub struct ErrorDetails {
    /// Code for programs, which is also counted in the metrics.
    pub code: &'static str,
    pub message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        let mut message = message.to_string();
        // The message may quote much of what a client sent.
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        ApiError { status, code, message }
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

    pub fn method_not_allowed(method: &Method, path: &str) -> Self {
        let message = format!("{path} does not support the method {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    pub fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub fn range_not_satisfiable(size: u64) -> Self {
        let message = format!("the requested range starts beyond the end of the resource, which has {size} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message)
    }

    /// Returns 503 for a limit of the server that is reached; the client can only retry later.
    pub fn overloaded(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    pub fn deadline_exceeded(timeout: Duration) -> Self {
        let message = format!("the request took longer than its timeout of {} ms", timeout.as_millis());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
    }

    /// Returns 408 for a client that has paused for too long while sending the body.
    pub fn stalled() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "stalled", "request body stalled")
    }

    pub fn key_missing(message: impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "key_missing", message)
    }

    pub fn forbidden(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn unsupported_encoding(encoding: &str) -> Self {
        let message = format!(
            "Content-Encoding {encoding:?} is not supported; send the body uncompressed, or with gzip or deflate"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, UNSUPPORTED_ENCODING, message)
    }

    /// Returns 422 for a well-formed request that cannot be processed: a tensor for which the network overflows, or an
    /// invalid checkpoint.
    pub fn unprocessable(message: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    pub fn not_acceptable(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
    }

    pub fn not_ready(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// Returns 500 for an internal error. Logs the reason instead of sending it, because it may reveal details of the
    /// server.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!("internal error: {reason}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal server error; see the log of the server")
    }

    pub fn into_failure(self) -> Failure {
        Failure::new(self.code, self.message)
    }

    /// Returns whether the server rather than the photo is the reason for the error.
    pub fn is_server_error(&self) -> bool {
        self.status.is_server_error()
    }
}

/// Handles requests to a known path with a method that it does not support.
pub async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(&method, uri.path())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let ApiError { status, code, message } = self;
        let mut response = (status, Json(Failure::new(code, message.clone()))).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if code == UNSUPPORTED_ENCODING {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(ErrorDetails { code, message });
        response
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
