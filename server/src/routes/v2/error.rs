//! The error format of the Open Inference Protocol: an object with one message.

use crate::error::ErrorDetails;
use axum::Json;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Serialize, ToSchema)]
pub struct InferenceError {
    pub error: String,
}

/// Middleware: rewrites the errors of all paths below `/v2/` into the format of the protocol, whether they come from a handler or
/// from other middleware. Status and headers stay.
pub async fn format_errors(request: Request, next: Next) -> Response {
    let is_v2 = request.uri().path().starts_with("/v2/");
    let mut response = next.run(request).await;
    if is_v2 && let Some(ErrorDetails { message, .. }) = response.extensions().get() {
        let body = Json(InferenceError { error: message.clone() }).into_response().into_body();
        *response.body_mut() = body;
        // It is set again for the new body.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}
