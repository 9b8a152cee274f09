//! Limits how long a request may take, including its transfer. Dropping the handler removes its images from every
//! queue.
//!
//! `TimeoutLayer` of `tower-http` was considered: its timeout is the same for all requests, and its response has no
//! body.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;

/// Request header with the number of milliseconds that the client will wait.
const TIMEOUT: &str = "x-timeout-ms";

/// Responds with 504 if the request is not completed before its deadline.
pub async fn enforce_deadline(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let timeout = requested_timeout(request.headers(), app.timeout)?;
    let response = tokio::time::timeout(timeout, next.run(request)).await;
    response.map_err(|_| ApiError::deadline_exceeded(timeout))
}

/// Returns the timeout that the client requested, but at most `max`.
fn requested_timeout(headers: &HeaderMap, max: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(max) };
    let milliseconds = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|&milliseconds| milliseconds > 0);
    let invalid = || ApiError::malformed(format!("invalid {TIMEOUT}: expected a positive integer (milliseconds)"));
    Ok(Duration::from_millis(milliseconds.ok_or_else(invalid)?).min(max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{app_with_model, loading_model, photo, send};
    use axum::body::Body;

    #[tokio::test]
    async fn request_fails_at_its_deadline_and_frees_its_queue_slot() {
        let (model, _go) = loading_model("cold");
        let app = app_with_model(model);
        let request = Request::post("/predict").header(TIMEOUT, "20").body(Body::from(photo(0))).unwrap();
        let response = send(&app, request).await;
        assert_eq!((response.status, response.code().as_str()), (504, "deadline_exceeded"));
        let model = app.registry.get(None).unwrap();
        let queued = (0..1000).filter(|_| model.batcher.submit([crate::fixture::grey(0)], &[]).is_ok()).count();
        assert_eq!(queued, 1000);
    }

    #[test]
    fn clients_may_shorten_the_timeout_but_not_extend_it() {
        let max = Duration::from_secs(30);
        for (value, expected) in [("100", Some(100)), ("60000", Some(30_000)), ("0", None), ("1.5", None), ("", None)] {
            let headers = HeaderMap::from_iter([(TIMEOUT.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(requested_timeout(&headers, max).ok(), expected.map(Duration::from_millis), "{value:?}");
        }
    }
}
