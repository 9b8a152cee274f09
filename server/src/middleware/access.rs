//! Who may ask: keys for predictions, a token for changes, origins for pages of others.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers that pages of others may send, and read.
const SENT: [&str; 10] = [
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
const RECEIVED: [&str; 7] = [
    "accept-ranges",
    "content-range",
    "etag",
    "inference-header-content-length",
    "retry-after",
    "server-timing",
    "x-request-id",
];

/// What opens which doors.
#[derive(Default)]
pub struct Access {
    /// Empty if predictions are for everybody.
    pub api_keys: Vec<String>,
    /// `None` if nobody may change what is served.
    pub admin_token: Option<String>,
}

/// Lets a request for predictions pass.
pub async fn predictions(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.access.may_predict(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.respond_at(request.uri().path()),
    }
}

/// Lets a request for changes pass.
pub async fn changes(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match app.access.may_change(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.respond_at(request.uri().path()),
    }
}

impl Access {
    fn may_predict(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.api_keys.is_empty() {
            return Ok(());
        }
        let key = bearer(headers).or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes));
        let missing = || ApiError::key_missing("a key is expected, as `Authorization: Bearer KEY` or `x-api-key: KEY`");
        if any_is(&self.api_keys, key.ok_or_else(missing)?) { Ok(()) } else { Err(ApiError::forbidden("unknown key")) }
    }

    fn may_change(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(token) = &self.admin_token else {
            return Err(ApiError::forbidden(
                "models cannot be changed over HTTP: this server was given no admin token",
            ));
        };
        let missing = || ApiError::key_missing("the admin token is expected, as `Authorization: Bearer TOKEN`");
        let given = bearer(headers).ok_or_else(missing)?;
        if any_is(std::slice::from_ref(token), given) { Ok(()) } else { Err(ApiError::forbidden("unknown token")) }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
}

/// In a time that tells nothing about how much of a key is right, nor which one.
fn any_is(keys: &[String], given: &[u8]) -> bool {
    let equal = keys.iter().fold(Choice::from(0), |any, key| any | key.as_bytes().ct_eq(given));
    equal.into()
}

/// For pages of these origins, and of all for `*`.
///
/// # Errors
/// For an origin that no header can hold.
pub fn cors(origins: &[String]) -> anyhow::Result<CorsLayer> {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().map(|origin| origin.parse()).collect::<Result<Vec<HeaderValue>, _>>()?)
    };
    Ok(CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(SENT.map(HeaderName::from_static))
        .expose_headers(RECEIVED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600)))
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
    fn predictions_are_for_everybody_unless_there_are_keys() {
        assert_eq!(status(Access::default().may_predict(&HeaderMap::new())), 200);
        let access = Access { api_keys: vec!["one".into(), "two".into()], ..Access::default() };
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
            assert_eq!(status(access.may_predict(&headers)), expected, "{headers:?}");
        }
    }

    #[test]
    fn changes_take_the_token_and_one_must_be_set() {
        let right = headers(header::AUTHORIZATION, "Bearer hush");
        assert_eq!(status(Access::default().may_change(&right)), 403);
        let access = Access { admin_token: Some("hush".into()), ..Access::default() };
        assert_eq!(status(access.may_change(&right)), 200);
        assert_eq!(status(access.may_change(&HeaderMap::new())), 401);
        assert_eq!(status(access.may_change(&headers(header::AUTHORIZATION, "Bearer hus"))), 403);
    }
}
