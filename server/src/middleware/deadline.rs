//! How long a request may take, its transfer included. Dropping its handler drops its images out of every queue.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds that the client will wait.
const TIMEOUT: &str = "x-timeout-ms";

pub async fn within_deadline(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let allowed = match allowed(request.headers(), app.timeout) {
        Ok(allowed) => allowed,
        Err(error) => return error.respond_at(request.uri().path()),
    };
    let path = request.uri().path().to_owned();
    let answer = tokio::time::timeout(allowed, next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::deadline(allowed).respond_at(&path))
}

/// What the client will wait, but no longer than `most`.
fn allowed(headers: &HeaderMap, most: Duration) -> Result<Duration, ApiError> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(most) };
    let milliseconds = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|&milliseconds| milliseconds > 0);
    let malformed = || ApiError::malformed(format!("{TIMEOUT}: a whole number of milliseconds from 1 is expected"));
    Ok(Duration::from_millis(milliseconds.ok_or_else(malformed)?).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{answer, app_of, cold_model, photo};
    use axum::body::Body;

    #[tokio::test]
    async fn who_waits_too_long_is_told() {
        let (model, _go) = cold_model("cold");
        let app = app_of(model);
        let request = Request::post("/predict").header(TIMEOUT, "20").body(Body::from(photo(0))).unwrap();
        let answer = answer(&app, request).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "deadline_exceeded"));
        // It does not wait any more, so it does not take a place either.
        let model = app.registry.get(None).unwrap();
        let room = (0..1000).filter(|_| model.batcher.submit([crate::fixture::grey(0)], &[]).is_ok()).count();
        assert_eq!(room, 1000);
    }

    #[test]
    fn a_client_may_ask_for_less_time_and_not_for_more() {
        let most = Duration::from_secs(30);
        for (value, expected) in [("100", Some(100)), ("60000", Some(30_000)), ("0", None), ("1.5", None), ("", None)] {
            let headers = HeaderMap::from_iter([(TIMEOUT.parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(allowed(&headers, most).ok(), expected.map(Duration::from_millis), "{value:?}");
        }
    }
}
