//! How much of a form is held that is no part's data: its parser keeps what comes before the first part and the headers
//! of each until it has all of them, and with every piece of the body looks at all that it keeps.

use axum::Error;
use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream::Fuse;
use futures_util::{Stream, StreamExt, stream};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// Bytes that may come without a part's data among them; a piece more may be on its way. Headers have a few hundred.
pub const HEADERS: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
#[error("the form has more than {HEADERS} bytes before a part or in its headers")]
pub struct HeadersTooLong;

/// It is asked once more when its parser has come to its end.
type Pieces = Fuse<BodyDataStream>;

/// A form's body as its parser is given it.
pub struct Unparsed {
    pieces: Arc<Mutex<Pieces>>,
    /// Given since the parser last came to something.
    bytes: Arc<AtomicUsize>,
}

impl Unparsed {
    /// The body of the request for the parser breaks off where that is given too much in vain.
    pub fn watch(request: Request) -> (Self, Request) {
        let (head, body) = request.into_parts();
        let (pieces, bytes) = (Arc::new(Mutex::new(body.into_data_stream().fuse())), Arc::new(AtomicUsize::new(0)));
        let unparsed = Unparsed { pieces: pieces.clone(), bytes: bytes.clone() };
        let mut waits = false;
        let body = Body::from_stream(stream::poll_fn(move |context| {
            if bytes.load(Ordering::Relaxed) > HEADERS {
                // The parser takes all pieces that are there before it looks at them; let it look.
                if !mem::replace(&mut waits, true) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(Error::new(HeadersTooLong))));
            }
            waits = false;
            let piece = ready!(next(&pieces, context));
            if let Some(Ok(piece)) = &piece {
                bytes.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Poll::Ready(piece)
        }));
        (unparsed, Request::from_parts(head, body))
    }

    /// The parser came to the data of a part, or further in it.
    pub fn clear(&self) {
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// What the parser left of the body.
    pub fn rest(&self) -> impl Stream<Item = Result<Bytes, Error>> {
        stream::poll_fn(|context| next(&self.pieces, context))
    }
}

fn next(pieces: &Mutex<Pieces>, context: &mut Context) -> Poll<Option<Result<Bytes, Error>>> {
    pieces.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
}
