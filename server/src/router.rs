//! Which handler answers what.

use crate::app::App;
use crate::error::{self, ApiError};
use crate::routes::{health, models, page, predict, weights};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;
use tracing::Span;

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/predict", post(predict::predict).layer(DefaultBodyLimit::max(app.upload_limits.body)))
        .route("/models", get(models::models))
        .route("/weights/{sha256}", get(weights::weights))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(page::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()))
        // Outermost, so that every answer has its line in the log.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(|request: &Request<_>| {
                    tracing::info_span!("request", method = %request.method(), path = request.uri().path())
                })
                .on_request(())
                .on_response(|response: &Response<_>, latency: Duration, _: &Span| {
                    let ms = latency.as_secs_f64() * 1e3;
                    tracing::info!(status = response.status().as_u16(), ms = format_args!("{ms:.1}"), "answered");
                })
                .on_failure(()),
        )
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use crate::fixture::{answer, app, get, post};
    use axum::body::Body;
    use axum::http::{Request, header};

    #[tokio::test]
    async fn an_unknown_route_is_not_found_by_any_method() {
        let answer = get(&app(), "/nowhere").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
        let answer = post(&app(), "/", "text/plain", "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    }

    #[tokio::test]
    async fn a_method_that_a_route_does_not_take_is_refused_with_those_it_takes() {
        let answer = get(&app(), "/predict").await;
        assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
        assert_eq!(answer.headers[header::ALLOW], "POST");
    }

    #[tokio::test]
    async fn every_get_has_a_head() {
        for path in ["/", "/models", "/healthz"] {
            let answer = answer(&app(), Request::head(path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.headers.contains_key(header::CONTENT_LENGTH), "{path}");
        }
    }
}
