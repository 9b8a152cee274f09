//! The error format of the Open Inference Protocol: an object with one message.

use crate::error::ErrorDetails;
use axum::Json;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The body of an error response.
#[derive(Serialize, ToSchema)]
pub struct InferenceError {
    pub error: String,
}

/// Middleware that rewrites the errors of all paths below `/v2/` into the format of the protocol, whether they come
/// from a handler or from other middleware. It keeps the status and the other headers.
pub async fn format_errors(request: Request, next: Next) -> Response {
    let is_v2 = request.uri().path().starts_with("/v2/");
    let mut response = next.run(request).await;
    if is_v2 && let Some(ErrorDetails { message, .. }) = response.extensions().get() {
        let body = Json(InferenceError { error: message.clone() }).into_response().into_body();
        *response.body_mut() = body;
        // The router sets it again for the new body.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, post, send};
    use axum::body::Body;
    use axum::http::{Request, header};

    #[tokio::test]
    async fn all_errors_below_v2_have_the_format_of_the_protocol() {
        let infer = Request::post("/v2/models/small/infer").header("x-timeout-ms", "soon");
        let responses = [
            (404, get(&app(), "/v2/models/medium").await),
            (404, get(&app(), "/v2/nowhere").await),
            (405, post(&app(), "/v2/health/live", "", "").await),
            (400, send(&app(), infer.body(Body::empty()).unwrap()).await),
            (403, post(&app(), "/v2/repository/index", "", "").await),
        ];
        for (status, response) in responses {
            let error = response.json();
            assert_eq!(response.status, status, "{error}");
            assert!(error["error"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
            assert_eq!(response.headers[header::CONTENT_LENGTH], response.body.len().to_string());
        }
    }

    #[tokio::test]
    async fn other_errors_have_a_code() {
        assert_eq!(get(&app(), "/nowhere").await.code(), "not_found");
    }
}
