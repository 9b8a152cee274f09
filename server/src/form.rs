//! How much of a form is held that is no part's data: its parser keeps what comes before the first part and the headers
//! of each until it has all of them, and with every piece of the body looks at all that it keeps.

use axum::Error;
use axum::body::Body;
use axum::extract::Request;
use futures_util::{StreamExt, stream};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};

/// Bytes that may come without a part's data among them; a piece more may be on its way. Headers have a few hundred.
pub const HEADERS: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
#[error("the form has more than {HEADERS} bytes before a part or in its headers")]
pub struct HeadersTooLong;

/// The bytes of a form's body that its parser was given since it last came to something.
pub struct Unparsed(Arc<AtomicUsize>);

impl Unparsed {
    /// The body of the request for the parser breaks off where that is given too much in vain.
    pub fn watch(request: Request) -> (Self, Request) {
        let (head, body) = request.into_parts();
        let bytes = Arc::new(AtomicUsize::new(0));
        let unparsed = Unparsed(bytes.clone());
        // The parser asks once more when it has come to its end.
        let mut pieces = body.into_data_stream().fuse();
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
            let piece = ready!(pieces.poll_next_unpin(context));
            if let Some(Ok(piece)) = &piece {
                bytes.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Poll::Ready(piece)
        }));
        (unparsed, Request::from_parts(head, body))
    }

    /// The parser came to the data of a part, or further in it.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}
