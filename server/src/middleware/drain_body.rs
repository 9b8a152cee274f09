//! Reads and discards the rest of a request body before responding: many clients send all of it before they read, and
//! treat an earlier response as a failure. If a response must not be delayed, it announces that the connection will be
//! closed, and `socket` reads the rest of the body afterwards.

use crate::app::App;
use crate::body::{self, DISCARD_FACTOR};
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::timeout;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Drains the body after the handler has responded, unless the response must not be delayed, the client waits for
/// permission to send the body, or the body is too large. Announces that the connection will be closed if part of the
/// body remains.
pub async fn drain_body(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let limit = app.upload_limits.bytes.saturating_mul(DISCARD_FACTOR);
    let (head, body) = request.into_parts();
    let expects_continue = head.headers.contains_key(header::EXPECT);
    let is_too_large = body::content_length(&head.headers) > limit;
    let body = SharedBody(Arc::new(Mutex::new(TrackedBody { body, was_polled: false, has_ended: false })));
    let mut response = next.run(Request::from_parts(head, Body::new(body.clone()))).await;

    // A client that sent `Expect: 100-continue` has not sent the body, and takes the response as the answer to that.
    let is_withheld = expects_continue && !body.0.lock().was_polled;
    if !is_too_large && !is_withheld && !must_not_be_delayed(response.status()) {
        let rest = body.clone().into_data_stream();
        let _ = timeout(app.stall_timeout, body::discard(rest, limit)).await;
    }
    if !body.0.lock().has_ended {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    response
}

/// Returns whether part of the request body is still to come after this response.
pub fn leaves_body_unread(response: &Response) -> bool {
    response.headers().get(header::CONNECTION) == Some(&CLOSE)
}

/// Returns whether a response must be sent immediately: the server waits no longer for a client that is too slow, and
/// spends no time on a request for which it has no capacity.
fn must_not_be_delayed(status: StatusCode) -> bool {
    use StatusCode as Status;
    matches!(status, Status::GATEWAY_TIMEOUT | Status::REQUEST_TIMEOUT | Status::SERVICE_UNAVAILABLE)
}

/// A body that the handler reads as far as it needs to, and that this middleware then reads to its end.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<TrackedBody>>);

struct TrackedBody {
    body: Body,
    was_polled: bool,
    has_ended: bool,
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut tracked = self.0.lock();
        tracked.was_polled = true;
        let frame = ready!(Pin::new(&mut tracked.body).poll_frame(context));
        tracked.has_ended = frame.is_none() || tracked.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().has_ended
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use crate::app::App;
    use crate::fixture::{app, app_with_limits, send};
    use crate::upload::UploadLimits;
    use axum::body::Body;
    use axum::http::{Request, header};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Sends ten chunks of ten bytes to an unknown route. Returns how many were read, and whether the connection is
    /// closed.
    async fn send_to_unknown_route(app: &Arc<App>, expect: Option<&str>) -> (usize, bool) {
        let chunks_read = Arc::new(AtomicUsize::new(0));
        let counter = chunks_read.clone();
        let chunks = stream::iter(0..10).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(b"ten bytes."))
        });
        let request = Request::post("/nowhere").body(Body::from_stream(chunks)).unwrap();
        let (mut head, body) = request.into_parts();
        head.headers.extend(expect.map(|expect| (header::EXPECT, expect.parse().unwrap())));
        let response = send(app, Request::from_parts(head, body)).await;
        assert_eq!(response.status, 404);
        (chunks_read.load(Ordering::Relaxed), response.headers.contains_key(header::CONNECTION))
    }

    #[tokio::test]
    async fn drains_rejected_bodies_unless_the_client_awaits_continue() {
        assert_eq!(send_to_unknown_route(&app(), None).await, (10, false));
        assert_eq!(send_to_unknown_route(&app(), Some("100-continue")).await, (0, true));
    }

    #[tokio::test]
    async fn stops_draining_at_the_limit() {
        let app = app_with_limits(UploadLimits { bytes: 10, count: 1 });
        assert_eq!(send_to_unknown_route(&app, None).await, (5, true));
    }
}
