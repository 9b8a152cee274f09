//! Request ids: the client's id if it is valid, otherwise a new one. Responses carry it in the same header.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tower_http::request_id::{MakeRequestId, RequestId};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id that a client sends, in bytes.
const MAX_ID_BYTES: usize = 128;

/// Makes ids that are unique across server processes: a number derived from time and process id, and a counter.
#[derive(Clone, Copy)]
pub struct UniqueRequestId;

impl MakeRequestId for UniqueRequestId {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        static START: LazyLock<u64> = LazyLock::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            since_epoch.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
        });
        let id = format!("{:016x}-{:08x}", *START, COUNT.fetch_add(1, Ordering::Relaxed));
        Some(RequestId::new(HeaderValue::from_str(&id).expect("hexadecimal digits are visible ASCII")))
    }
}

/// Removes an id of the client that is empty, too long or not visible ASCII, so that the request gets a new one.
pub async fn remove_invalid_id(mut request: Request) -> Request {
    let is_valid = |id: &HeaderValue| (1..=MAX_ID_BYTES).contains(&id.len()) && id.to_str().is_ok();
    if request.headers().get(REQUEST_ID).is_some_and(|id| !is_valid(id)) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, send};
    use axum::body::Body;
    use axum::http::Request;

    #[tokio::test]
    async fn valid_ids_are_returned_and_others_replaced() {
        let request = Request::get("/healthz").header("x-request-id", "mine").body(Body::empty()).unwrap();
        assert_eq!(send(&app(), request).await.headers["x-request-id"], "mine");
        let (first, second) = (get(&app(), "/healthz").await, get(&app(), "/nowhere").await);
        assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
        let long = "x".repeat(200);
        let request = Request::get("/healthz").header("x-request-id", &long).body(Body::empty()).unwrap();
        assert_ne!(send(&app(), request).await.headers["x-request-id"], long.as_str());
    }
}
