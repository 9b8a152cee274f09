//! How much of a form is held that is no part's data: its parser keeps what comes before the first part and the headers
//! of each until it has all of them, and with every piece of the body looks at all that it keeps.

use axum::Error;
use axum::body::Body;
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

/// Bytes that a form's parser has been given since it last came to something.
#[derive(Default)]
pub struct Unparsed(Arc<AtomicUsize>);

impl Unparsed {
    /// The parser came to the data of a part, or further in it.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A form's body, which breaks off where its parser is given too much in vain.
    pub fn watch(&self, body: Body) -> Body {
        let (unparsed, mut pieces, mut waits) = (self.0.clone(), body.into_data_stream(), false);
        Body::from_stream(stream::poll_fn(move |context| {
            if unparsed.load(Ordering::Relaxed) > HEADERS {
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
                unparsed.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Poll::Ready(piece)
        }))
    }
}
