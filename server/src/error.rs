//! Every error that a client sees: a status, a code for programs, a sentence for people, as JSON.

use crate::routes::v2;
use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::prediction::Failure;
use model::preprocess::PhotoError;
use std::time::Duration;

/// Seconds after which a client may come again.
const RETRY_AFTER: &str = "1";

/// Bytes of a message.
const LONGEST: usize = 1000;

/// Left on an answer for who counts them.
#[derive(Clone, Copy)]
pub struct Refusal(pub &'static str);

#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        let mut message = message.to_string();
        // Much of it may be what a client sent.
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST));
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

    pub fn too_large(message: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub fn range_not_satisfiable(size: u64) -> Self {
        let message = format!("the range begins behind the end of {size} bytes");
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message)
    }

    /// Nothing that a client could do better, but come again later.
    pub fn overloaded(message: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    pub fn deadline(allowed: Duration) -> Self {
        let message = format!("there was no answer within {} ms", allowed.as_millis());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message)
    }

    /// The body was announced and does not come.
    pub fn stalled() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "stalled", "the body does not come any further")
    }

    pub fn key_missing(message: impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "key_missing", message)
    }

    pub fn forbidden(message: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// A body that is packed.
    pub fn encoded(encoding: &str) -> Self {
        let message = format!("a body with Content-Encoding {encoding:?} is not taken; send it as it is");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message)
    }

    /// A tensor that the network makes no numbers of, or a checkpoint that is none.
    pub fn unprocessable(message: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message)
    }

    pub fn not_acceptable(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
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
pub async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).respond_at(uri.path())
}

impl ApiError {
    /// With another body than the one of [`Failure`], for a protocol that has its own.
    pub fn respond_with(self, body: impl FnOnce(String) -> Response) -> Response {
        let ApiError { status, code, message } = self;
        let mut response = body(message);
        *response.status_mut() = status;
        response.extensions_mut().insert(Refusal(code));
        let headers = response.headers_mut();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// As the protocol of this path writes errors.
    pub fn respond_at(self, path: &str) -> Response {
        if path.starts_with("/v2/") { v2::Refused::from(self).into_response() } else { self.into_response() }
    }

    /// Whether the server, not the photo, is why there is no answer.
    pub fn is_the_servers(&self) -> bool {
        self.status.is_server_error()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.code;
        self.respond_with(|message| Json(Failure::new(code, message)).into_response())
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
