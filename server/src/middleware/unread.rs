//! A body that nobody has read to its end is read on and thrown away before the answer: many clients send all of theirs before
//! they look, and take an answer that comes earlier for a failure. Answers that are not to wait say that the connection ends with
//! them, and what is left is read behind them (`socket`).

use crate::app::App;
use crate::body::{self, DISCARDED};
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::time::timeout;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

pub async fn read_on(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let most = app.upload_limits.bytes.saturating_mul(DISCARDED);
    let (head, body) = request.into_parts();
    let asks_first = head.headers.contains_key(header::EXPECT);
    let is_too_large = body::announced(&head.headers) > most;
    let shared = Shared(Arc::new(Mutex::new(Rest { body, begun: false, ended: false })));
    let mut response = next.run(Request::from_parts(head, Body::new(shared.clone()))).await;

    // Who asks whether to send it is answered by that.
    let is_withheld = asks_first && !shared.with(|rest| rest.begun);
    if !is_too_large && !is_withheld && !is_urgent(response.status()) {
        let rest = shared.clone().into_data_stream();
        let _ = timeout(app.stall_timeout, body::discard(rest, most)).await;
    }
    if !shared.with(|rest| rest.ended) {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    response
}

/// Whether something of the request's body is still to come behind this answer.
pub fn is_left(response: &Response) -> bool {
    response.headers().get(header::CONNECTION) == Some(&CLOSE)
}

/// A client that is too slow is not waited for any longer, and what the server has no room for costs it no time either.
fn is_urgent(status: StatusCode) -> bool {
    use StatusCode as Status;
    matches!(status, Status::GATEWAY_TIMEOUT | Status::REQUEST_TIMEOUT | Status::SERVICE_UNAVAILABLE)
}

/// The body, of which the handler reads as much as it wants.
#[derive(Clone)]
struct Shared(Arc<Mutex<Rest>>);

struct Rest {
    body: Body,
    /// Whether somebody has asked for any of it.
    begun: bool,
    ended: bool,
}

impl Shared {
    fn with<T>(&self, with: impl FnOnce(&mut Rest) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|rest| {
            rest.begun = true;
            let frame = ready!(Pin::new(&mut rest.body).poll_frame(context));
            rest.ended = frame.is_none() || rest.body.is_end_stream();
            Poll::Ready(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|rest| rest.ended)
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|rest| rest.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use crate::app::App;
    use crate::fixture::{answer, app, app_with_limits};
    use crate::photos::UploadLimits;
    use axum::body::Body;
    use axum::http::{Request, header};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many of ten pieces of ten bytes are asked for where there is no such route, and whether the connection ends.
    async fn asked(app: &Arc<App>, expect: Option<&str>) -> (usize, bool) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let pieces = stream::iter(0..10).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(b"ten bytes."))
        });
        let request = Request::post("/nowhere").body(Body::from_stream(pieces)).unwrap();
        let (mut head, body) = request.into_parts();
        head.headers.extend(expect.map(|expect| (header::EXPECT, expect.parse().unwrap())));
        let answer = answer(app, Request::from_parts(head, body)).await;
        assert_eq!(answer.status, 404);
        (asked.load(Ordering::Relaxed), answer.headers.contains_key(header::CONNECTION))
    }

    #[tokio::test]
    async fn what_is_refused_is_read_on_unless_its_client_asks_first() {
        assert_eq!(asked(&app(), None).await, (10, false));
        assert_eq!(asked(&app(), Some("100-continue")).await, (0, true));
    }

    #[tokio::test]
    async fn what_is_too_large_is_not() {
        let app = app_with_limits(UploadLimits { bytes: 10, count: 1 });
        assert_eq!(asked(&app, None).await, (5, true));
    }
}
