//! Which handler answers what. The same registrations make the OpenAPI document, so no route of the interface is undocumented.

use crate::app::App;
use crate::body::DISCARDED;
use crate::error::{self, ApiError};
use crate::middleware::{access, deadline, headers, observe, unread};
use crate::routes::docs::Docs;
use crate::routes::{health, metrics, models, page, predict, v2, weights};
use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// # Errors
/// For origins that are none.
pub fn router(app: Arc<App>) -> Result<Router> {
    let predictions = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(v2::infer::infer))
        .routes(routes!(v2::infer::infer_version))
        .layer(DefaultBodyLimit::max(app.upload_limits.bytes.saturating_mul(DISCARDED)))
        .layer(from_fn_with_state(app.clone(), access::predictions))
        .layer(from_fn_with_state(app.clone(), deadline::within_deadline))
        .layer(RequestBodyTimeoutLayer::new(app.stall_timeout));
    let changes = OpenApiRouter::new()
        .routes(routes!(v2::repository::index))
        .routes(routes!(v2::repository::load))
        .routes(routes!(v2::repository::unload))
        .layer(from_fn_with_state(app.clone(), access::changes))
        .layer(DefaultBodyLimit::max(v2::repository::LARGEST * DISCARDED))
        .layer(RequestBodyTimeoutLayer::new(app.stall_timeout));
    let (router, api) = OpenApiRouter::with_openapi(description())
        .merge(predictions)
        .merge(changes)
        .routes(routes!(models::models))
        .routes(routes!(weights::weights))
        .routes(routes!(v2::metadata::server))
        .routes(routes!(v2::metadata::of_model))
        .routes(routes!(v2::metadata::of_version))
        .routes(routes!(v2::metadata::config))
        .routes(routes!(v2::health::live))
        .routes(routes!(v2::health::ready))
        .routes(routes!(v2::health::model_ready))
        .routes(routes!(v2::health::version_ready))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    let docs = Arc::new(Docs::new(&api));
    let page_of_docs = docs.clone();
    let router = router
        .route("/docs", get(async move |method: Method, headers: HeaderMap| page_of_docs.page(&method, &headers)))
        .route("/openapi.json", get(async move |method: Method, headers: HeaderMap| docs.document(&method, &headers)))
        .fallback(page::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()));
    let router = router.layer(from_fn_with_state(app.clone(), unread::read_on));
    let router = if app.cors_origins.is_empty() { router } else { router.layer(access::cors(&app.cors_origins)?) };
    // Outermost, so that every answer has its line in the log.
    let observe = from_fn_with_state(app.clone(), observe::observe);
    Ok(router.layer(from_fn(headers::cautious)).layer(observe).with_state(app))
}

fn description() -> OpenApi {
    let info = InfoBuilder::new().title("Shortcut").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Image classification with residual networks. Requests for predictions take the header x-timeout-ms, and a key \
         where the server was given keys; every answer has x-request-id, the client's if it sent one, and Server-Timing.",
    ));
    let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut components = Components::new();
    components.add_security_scheme("admin token", token);
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
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
        for path in ["/", "/models", "/healthz", "/docs", "/openapi.json", "/v2"] {
            let answer = answer(&app(), Request::head(path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.headers.contains_key(header::CONTENT_LENGTH), "{path}");
        }
    }

    #[tokio::test]
    async fn every_answer_is_cautious() {
        for path in ["/models", "/nowhere", "/predict"] {
            let headers = get(&app(), path).await.headers;
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        }
    }
}
