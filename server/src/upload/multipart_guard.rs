//! Limits how much of a multipart form is buffered that is not the data of a part. The parser buffers everything before
//! the first part and the headers of each part until they are complete, and scans its whole buffer whenever a chunk
//! arrives.
//!
//! The limits of `multer`, the parser that axum's `Multipart` uses, were considered: they apply only to the whole form
//! and to the data of a part.

use axum::Error;
use axum::body::Body;
use axum::extract::Request;
use futures_util::{StreamExt, stream};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};

/// Maximum number of successive bytes that are not the data of a part; one more chunk may be received. The headers of a
/// part usually have a few hundred bytes.
pub const MAX_HEADER_BYTES: usize = 16 << 10;

/// The error of a body that exceeds [`MAX_HEADER_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("the form has more than {MAX_HEADER_BYTES} bytes before a part or in the headers of a part")]
pub struct HeadersTooLong;

/// Counts the bytes that the parser has received since it last made progress.
pub struct MultipartGuard {
    unparsed_bytes: Arc<AtomicUsize>,
}

impl MultipartGuard {
    /// Wraps the body of `request` so that it fails with [`HeadersTooLong`] when the parser has received too many bytes
    /// without progress.
    pub fn wrap(request: Request) -> (Self, Request) {
        let (head, body) = request.into_parts();
        let unparsed_bytes = Arc::new(AtomicUsize::new(0));
        let guard = MultipartGuard { unparsed_bytes: unparsed_bytes.clone() };
        // The parser polls once more after the end of the stream.
        let mut chunks = body.into_data_stream().fuse();
        let mut has_yielded = false;
        let body = Body::from_stream(stream::poll_fn(move |context| {
            if unparsed_bytes.load(Ordering::Relaxed) > MAX_HEADER_BYTES {
                // The parser takes all chunks that are ready before it parses them: yield once, so that it parses.
                if !mem::replace(&mut has_yielded, true) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(Error::new(HeadersTooLong))));
            }
            has_yielded = false;
            let chunk = ready!(chunks.poll_next_unpin(context));
            if let Some(Ok(chunk)) = &chunk {
                unparsed_bytes.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            Poll::Ready(chunk)
        }));
        (guard, Request::from_parts(head, body))
    }

    /// Resets the count: the parser has reached the data of a part, or further data of it.
    pub fn record_progress(&self) {
        self.unparsed_bytes.store(0, Ordering::Relaxed);
    }
}
