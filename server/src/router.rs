//! Maps routes to handlers. The same registrations produce the OpenAPI document, so that every route of the API is
//! documented.

use crate::app::App;
use crate::body::DISCARD_FACTOR;
use crate::error::{self, ApiError};
use crate::middleware::request_id::{REQUEST_ID, UniqueRequestId};
use crate::middleware::{access, deadline, drain_body, hold_memory, limit_compressed, observe, request_id};
use crate::routes::docs::Docs;
use crate::routes::{health, metrics, models, page, predict, v2, weights};
use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state, map_request, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tower::Layer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Content security policy of API responses, which are never documents that display or run anything. The page has its
/// own policy.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Builds the router with all routes and middleware.
///
/// # Errors
/// Returns an error if a configured CORS origin is invalid.
pub fn router(app: Arc<App>) -> Result<Router> {
    let predictions = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(v2::infer::infer))
        .routes(routes!(v2::infer::infer_version))
        .layer(DefaultBodyLimit::max(app.upload_limits.bytes.saturating_mul(DISCARD_FACTOR)))
        .layer(from_fn_with_state(app.access.clone(), access::require_api_key))
        .layer(from_fn_with_state(app.clone(), deadline::enforce_deadline))
        .layer(RequestBodyTimeoutLayer::new(app.stall_timeout))
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true))
        .layer(from_fn_with_state(app.clone(), limit_compressed::limit_compressed));
    let model_repository = OpenApiRouter::new()
        .routes(routes!(v2::repository::index))
        .routes(routes!(v2::repository::load))
        .routes(routes!(v2::repository::unload))
        .layer(from_fn_with_state(app.access.clone(), access::require_admin_token))
        .layer(DefaultBodyLimit::max(v2::repository::MAX_BODY_BYTES * DISCARD_FACTOR))
        .layer(RequestBodyTimeoutLayer::new(app.stall_timeout));
    let (router, api) = OpenApiRouter::with_openapi(api_description())
        .merge(predictions)
        .merge(model_repository)
        .routes(routes!(models::models))
        .routes(routes!(weights::weights))
        .routes(routes!(v2::metadata::server))
        .routes(routes!(v2::metadata::model_metadata))
        .routes(routes!(v2::metadata::version_metadata))
        .routes(routes!(v2::metadata::config))
        .routes(routes!(v2::statistics::all))
        .routes(routes!(v2::statistics::of_model))
        .routes(routes!(v2::statistics::of_version))
        .routes(routes!(v2::health::live))
        .routes(routes!(v2::health::ready))
        .routes(routes!(v2::health::model_ready))
        .routes(routes!(v2::health::version_ready))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    let docs = Arc::new(Docs::new(&api));
    let docs_page = docs.clone();
    let document = async move |method: Method, headers: HeaderMap| docs.document(&method, &headers);
    let router = router
        .route("/docs", get(async move |method: Method, headers: HeaderMap| docs_page.page(&method, &headers)))
        .route("/openapi.json", get(document.clone()))
        // The page links to the document by a relative URL, which depends on whether its own URL ends with a slash.
        .route("/docs/openapi.json", get(document))
        .fallback(page::page)
        .method_not_allowed_fallback(error::method_not_allowed)
        // The first layer of a tuple is the outermost.
        .layer((
            from_fn_with_state(app.clone(), drain_body::drain_body),
            from_fn(hold_memory::hold_until_sent),
            from_fn(v2::error::format_errors),
            CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()),
        ));
    let router = if app.cors_origins.is_empty() { router } else { router.layer(access::cors(&app.cors_origins)?) };
    // `observe` is outside all layers that may respond, so that every response is logged; only the layers that set the
    // request id, which it reads, are outside it.
    let router = router.layer((
        map_request(request_id::remove_invalid_id),
        SetRequestIdLayer::new(REQUEST_ID, UniqueRequestId),
        PropagateRequestIdLayer::new(REQUEST_ID),
        from_fn_with_state(app.clone(), observe::observe),
        map_response(add_security_headers),
    ));
    // Outside the router, because its layers run after it has chosen a route.
    Ok(Router::new().fallback_service(NormalizePathLayer::trim_trailing_slash().layer(router.with_state(app))))
}

fn api_description() -> OpenApi {
    let info = InfoBuilder::new().title("Shortcut").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Image classification with residual networks. Requests for predictions accept the header x-timeout-ms, and require an \
         API key if the server is configured with keys. Every response has x-request-id, which is the client's id if it sent \
         one, and Server-Timing.",
    ));
    let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    let mut components = Components::new();
    components.add_security_scheme("admin token", token);
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

async fn add_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Pages of other origins embed the weights and the worker; CORS determines what else they may read.
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(API_POLICY));
    response
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, photo, post, send};
    use axum::body::Body;
    use axum::http::{Request, header};

    #[tokio::test]
    async fn unknown_routes_are_not_found_with_any_method() {
        let response = get(&app(), "/nowhere").await;
        assert_eq!((response.status, response.code().as_str()), (404, "not_found"));
        let response = post(&app(), "/", "text/plain", "").await;
        assert_eq!((response.status, response.code().as_str()), (404, "not_found"));
    }

    #[tokio::test]
    async fn unsupported_methods_are_rejected_with_the_supported_ones() {
        let response = get(&app(), "/predict").await;
        assert_eq!((response.status, response.code().as_str()), (405, "method_not_allowed"));
        assert_eq!(response.headers[header::ALLOW], "POST");
    }

    #[tokio::test]
    async fn get_routes_support_head() {
        for path in ["/", "/models", "/healthz", "/docs", "/openapi.json", "/v2"] {
            let response = send(&app(), Request::head(path).body(Body::empty()).unwrap()).await;
            assert_eq!(response.status, 200, "{path}");
            assert!(response.headers.contains_key(header::CONTENT_LENGTH), "{path}");
        }
    }

    #[tokio::test]
    async fn every_route_may_end_with_a_slash() {
        let app = app();
        app.registry.wait_until_ready().await.unwrap();
        for path in
            ["/models/", "/healthz/", "/readyz/", "/metrics/", "/docs/", "/openapi.json/", "/v2/", "/v2/models/small/"]
        {
            assert_eq!(get(&app, path).await.status, 200, "{path}");
        }
        let response = post(&app, "/predict/?top_k=1", "image/png", photo(7)).await;
        assert_eq!(response.json()["predictions"].as_array().unwrap().len(), 1);
        assert!(get(&app, "/metrics").await.body.contains(r#"route="/predict",status="200"} 1"#));
        assert_eq!(get(&app, "/v2/models/medium/").await.json()["error"].as_str().map(str::is_empty), Some(false));
    }

    #[tokio::test]
    async fn every_response_has_security_headers() {
        for path in ["/models", "/nowhere", "/predict"] {
            let headers = get(&app(), path).await.headers;
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        }
    }
}
