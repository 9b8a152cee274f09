//! A body that nobody has read to its end is read on and thrown away before the answer: many clients send all of theirs before
//! they look, and take an answer that comes earlier for a failure. Those that must not wait are read on behind their answer
//! (`socket`), and so is what takes longer or is larger than that.

use crate::app::App;
use crate::body::{self, DISCARDED};
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::time::timeout;

pub async fn read_on(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let most = app.upload_limits.bytes.saturating_mul(DISCARDED);
    if request.body().is_end_stream() || body::announced(request.headers()) > most {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let asks_first = head.headers.contains_key(header::EXPECT);
    let rest = Shared(Arc::new(Mutex::new(Begun { body, begun: false })));
    let response = next.run(Request::from_parts(head, Body::new(rest.clone()))).await;
    let is_late = matches!(response.status(), StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT);
    // Who asks whether to send it has its answer.
    if !is_late && !(asks_first && !rest.is_begun()) {
        let rest = rest.into_data_stream();
        let _ = timeout(app.stall_timeout, body::discard(rest, most)).await;
    }
    response
}

/// The body, of which the handler reads as much as it wants.
#[derive(Clone)]
struct Shared(Arc<Mutex<Begun>>);

struct Begun {
    body: Body,
    /// Whether somebody has asked for any of it.
    begun: bool,
}

impl Shared {
    fn is_begun(&self) -> bool {
        self.with(|begun| begun.begun)
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Begun) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        self.with(|begun| {
            begun.begun = true;
            Pin::new(&mut begun.body).poll_frame(context)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|begun| begun.body.is_end_stream())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.with(|begun| begun.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{answer, app, app_with_limits};
    use crate::photos::UploadLimits;
    use axum::body::Body;
    use axum::http::{Request, header};
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// How many of ten pieces of ten bytes are asked for by what has no such route, and its status.
    async fn asked(app: &Arc<crate::app::App>, expect: Option<&str>) -> (u16, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let pieces = stream::iter(0..10).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from_static(b"ten bytes."))
        });
        let request = Request::post("/nowhere").body(Body::from_stream(pieces)).unwrap();
        let (mut head, body) = request.into_parts();
        head.headers.extend(expect.map(|expect| (header::EXPECT, expect.parse().unwrap())));
        let status = answer(app, Request::from_parts(head, body)).await.status;
        (status, asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_is_refused_is_read_on_unless_its_client_asks_first() {
        assert_eq!(asked(&app(), None).await, (404, 10));
        assert_eq!(asked(&app(), Some("100-continue")).await, (404, 0));
    }

    #[tokio::test]
    async fn what_is_too_large_is_not() {
        let app = app_with_limits(UploadLimits { bytes: 10, count: 1 });
        assert_eq!(asked(&app, None).await, (404, 5));
    }
}
