//! The phase of a connection, which its socket and its HTTP service share: hyper does not tell the socket where requests
//! and responses begin and end.

use axum::body::{Body, HttpBody};
use axum::http::Version;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The head of a request is being received. A connection starts in this phase.
    Head,
    /// A request is being processed, until its response was passed to the socket.
    Request {
        /// Whether the client understands interim responses, which HTTP/1.0 does not have.
        accepts_interim: bool,
    },
    /// A response is complete, and nothing was received since.
    Idle,
}

/// The current phase of one connection.
#[derive(Clone)]
pub struct Exchange(Arc<Mutex<Phase>>);

impl Exchange {
    pub fn new() -> Self {
        Exchange(Arc::new(Mutex::new(Phase::Head)))
    }

    pub fn phase(&self) -> Phase {
        *self.0.lock()
    }

    /// Records that bytes were received, which begin a request if the connection was idle.
    pub fn record_received(&self) {
        let mut phase = self.0.lock();
        if *phase == Phase::Idle {
            *phase = Phase::Head;
        }
    }

    /// Records that the head of a request was received.
    pub fn begin_request(&self, version: Version) {
        *self.0.lock() = Phase::Request { accepts_interim: version >= Version::HTTP_11 };
    }

    /// Records the end of the request when the body of its response is dropped.
    pub fn end_after(&self, response: Response) -> Response {
        let end = EndRequest(self.clone());
        response.map(|body| Body::new(LastBody { body, _end: end }))
    }
}

struct EndRequest(Exchange);

impl Drop for EndRequest {
    fn drop(&mut self) {
        *self.0.0.lock() = Phase::Idle;
    }
}

/// The body of a response, with which the request ends.
struct LastBody {
    body: Body,
    _end: EndRequest,
}

impl HttpBody for LastBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn a_request_ends_when_its_response_was_sent() {
        let exchange = Exchange::new();
        exchange.record_received();
        assert_eq!(exchange.phase(), Phase::Head);
        exchange.begin_request(Version::HTTP_11);
        let response = exchange.end_after("text".into_response());
        exchange.record_received();
        assert_eq!(exchange.phase(), Phase::Request { accepts_interim: true });
        assert_eq!(response.body().size_hint().exact(), Some(4));
        drop(response);
        assert_eq!(exchange.phase(), Phase::Idle);
        exchange.record_received();
        assert_eq!(exchange.phase(), Phase::Head);
        exchange.begin_request(Version::HTTP_10);
        assert_eq!(exchange.phase(), Phase::Request { accepts_interim: false });
    }
}
