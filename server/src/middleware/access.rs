//! Access control: API keys for predictions, a token for changing models, and CORS for pages of other origins.

use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Request headers that pages of all origins may send, if the server allows all origins.
const ALLOWED_HEADERS: [&str; 10] = [
    "accept",
    "authorization",
    "content-type",
    "if-none-match",
    "if-range",
    "inference-header-content-length",
    "range",
    "x-api-key",
    "x-request-id",
    "x-timeout-ms",
];

/// Response headers that pages of other origins may read.
const EXPOSED_HEADERS: [&str; 7] = [
    "accept-ranges",
    "content-range",
    "etag",
    "inference-header-content-length",
    "retry-after",
    "server-timing",
    "x-request-id",
];

/// The keys and the token that the server accepts.
#[derive(Default)]
pub struct AccessControl {
    /// Keys for predictions; empty if predictions need no key.
    pub api_keys: Vec<String>,
    /// Token for changing the served models; `None` if they cannot be changed over HTTP.
    pub admin_token: Option<String>,
}

/// Rejects requests for predictions without a valid key.
pub async fn require_api_key(
    State(access): State<Arc<AccessControl>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    access.check_api_key(request.headers())?;
    Ok(next.run(request).await)
}

/// Rejects requests to change models without the admin token.
pub async fn require_admin_token(
    State(access): State<Arc<AccessControl>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    access.check_admin_token(request.headers())?;
    Ok(next.run(request).await)
}

impl AccessControl {
    fn check_api_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.api_keys.is_empty() {
            return Ok(());
        }
        let key = bearer(headers).or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes));
        let missing =
            || ApiError::key_missing("an API key is required: send `Authorization: Bearer KEY` or `x-api-key: KEY`");
        if contains(&self.api_keys, key.ok_or_else(missing)?) {
            Ok(())
        } else {
            Err(ApiError::forbidden("invalid API key"))
        }
    }

    fn check_admin_token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(token) = &self.admin_token else {
            return Err(ApiError::forbidden(
                "models cannot be changed over HTTP: the server was started without --admin-token",
            ));
        };
        let missing = || ApiError::key_missing("the admin token is required: send `Authorization: Bearer TOKEN`");
        let sent = bearer(headers).ok_or_else(missing)?;
        if contains(std::slice::from_ref(token), sent) {
            Ok(())
        } else {
            Err(ApiError::forbidden("invalid admin token"))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
}

/// Returns whether `key` is one of `keys`. The time that this takes reveals neither how much of a key is right nor
/// which one.
fn contains(keys: &[String], key: &[u8]) -> bool {
    let equal = keys.iter().fold(Choice::from(0), |any, valid| any | valid.as_bytes().ct_eq(key));
    equal.into()
}

/// Returns a layer that allows requests from pages of these origins, with any headers and with credentials, or from pages
/// of all origins for `*`, with a list of headers and without credentials. Browsers and proxies use credentials, such as
/// cookies, for a gateway in front of the server; the server itself has none.
///
/// # Errors
/// Returns an error for an origin that is not a valid header value.
pub fn cors(origins: &[String]) -> anyhow::Result<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .expose_headers(EXPOSED_HEADERS.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600));
    if origins.iter().any(|origin| origin == "*") {
        return Ok(layer.allow_origin(Any).allow_headers(ALLOWED_HEADERS.map(HeaderName::from_static)));
    }
    let origins = origins.iter().map(|origin| origin.parse()).collect::<Result<Vec<HeaderValue>, _>>()?;
    Ok(layer.allow_origin(origins).allow_headers(AllowHeaders::mirror_request()).allow_credentials(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn status(result: Result<(), ApiError>) -> u16 {
        result.map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn predictions_need_a_key_only_if_keys_are_configured() {
        assert_eq!(status(AccessControl::default().check_api_key(&HeaderMap::new())), 200);
        let access = AccessControl { api_keys: vec!["one".into(), "two".into()], ..AccessControl::default() };
        for (headers, expected) in [
            (HeaderMap::new(), 401),
            (headers(API_KEY, "two"), 200),
            (headers(header::AUTHORIZATION, "Bearer one"), 200),
            (headers(header::AUTHORIZATION, "bearer one"), 200),
            (headers(header::AUTHORIZATION, "Basic one"), 401),
            (headers(header::AUTHORIZATION, "Bearer"), 401),
            (headers(API_KEY, "on"), 403),
            (headers(API_KEY, "one1"), 403),
            (headers(API_KEY, ""), 403),
        ] {
            assert_eq!(status(access.check_api_key(&headers)), expected, "{headers:?}");
        }
    }

    #[test]
    fn changes_need_the_configured_admin_token() {
        let valid = headers(header::AUTHORIZATION, "Bearer hush");
        assert_eq!(status(AccessControl::default().check_admin_token(&valid)), 403);
        let access = AccessControl { admin_token: Some("hush".into()), ..AccessControl::default() };
        assert_eq!(status(access.check_admin_token(&valid)), 200);
        assert_eq!(status(access.check_admin_token(&HeaderMap::new())), 401);
        assert_eq!(status(access.check_admin_token(&headers(header::AUTHORIZATION, "Bearer hus"))), 403);
    }
}
