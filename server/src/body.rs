//! Bodies of requests, read within limits: of one body, and of all that are held at a time.
//!
//! What is too large is read on and thrown away, up to another limit: a client that is still sending would not see an answer.

use crate::error::ApiError;
use crate::form::HeadersTooLong;
use axum::Error;
use axum::RequestExt;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use headers::{ContentLength, HeaderMapExt};
use http_body_util::LengthLimitError;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutError;

/// A body may have so many times the bytes that are kept of it; the connection ends there.
pub const DISCARDED: usize = 4;

/// Room that is made for what is announced before any of it comes.
const TRUSTED: usize = 1 << 20;

/// The bytes of all bodies that are held, and of what is made of them.
pub struct InFlight {
    bytes: Arc<Semaphore>,
    limit: usize,
}

impl InFlight {
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        InFlight { bytes: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Bytes that are held at the moment.
    pub fn held(&self) -> usize {
        self.limit - self.bytes.available_permits()
    }

    /// For one request.
    pub fn share(&self) -> Share {
        Share { bytes: self.bytes.clone(), taken: AtomicUsize::new(0) }
    }
}

/// What one request holds, until it is dropped.
pub struct Share {
    bytes: Arc<Semaphore>,
    taken: AtomicUsize,
}

impl Share {
    /// Makes room for so many bytes more.
    ///
    /// # Errors
    /// 503 at once, if others hold too much.
    pub fn grow(&self, bytes: usize) -> Result<(), ApiError> {
        let full = || ApiError::overloaded("the server holds as many bytes of other requests as it may");
        let more = u32::try_from(bytes).map_err(|_| full())?;
        self.bytes.try_acquire_many(more).map_err(|_| full())?.forget();
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives so many of its bytes back.
    pub fn shrink(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes.add_permits(bytes);
    }

    /// Gives everything back.
    pub fn clear(&self) {
        self.bytes.add_permits(self.taken.swap(0, Ordering::Relaxed));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What one request holds stays held until its answer, which takes less, is sent: who does not read has it wait in memory.
pub async fn held(answer: Response, share: Arc<Share>) -> Response {
    struct Held(Bytes, Arc<Share>);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            let Held(bytes, _share) = self;
            bytes
        }
    }

    let (head, body) = answer.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(bytes) => Response::from_parts(head, Bytes::from_owner(Held(bytes, share)).into()),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// What a stream of bytes, of which so many are announced, holds, or how long it is if that is more than `limit`.
///
/// # Errors
/// Those of the stream, by `unreadable`, and of [`Share::grow`].
pub async fn read<E>(
    mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    announced: usize,
    limit: usize,
    share: &Share,
    unreadable: impl Fn(E) -> ApiError,
) -> Result<Result<Bytes, TooLong>, ApiError> {
    // No more than what is trusted at once; large bodies grow as they come.
    let mut kept = BytesMut::with_capacity(announced.min(limit).min(TRUSTED));
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await.map_err(&unreadable)? {
        bytes += chunk.len();
        if bytes <= limit {
            share.grow(chunk.len())?;
            kept.extend_from_slice(&chunk);
        } else {
            share.shrink(kept.len());
            kept = BytesMut::new();
        }
    }
    Ok(if bytes <= limit { Ok(kept.freeze()) } else { Err(TooLong { bytes, limit }) })
}

/// How many bytes there were, instead of how many at most.
#[derive(Clone, Copy, Debug)]
pub struct TooLong {
    pub bytes: usize,
    pub limit: usize,
}

/// The bytes that a body is said to have, if it is said.
pub fn announced(headers: &HeaderMap) -> usize {
    headers.typed_get::<ContentLength>().map_or(0, |length| usize::try_from(length.0).unwrap_or(usize::MAX))
}

/// The whole body of a request, at most `limit` bytes.
pub async fn whole(request: Request, limit: usize, share: &Share) -> Result<Bytes, ApiError> {
    let announced = announced(request.headers());
    let body = request.into_limited_body();
    let read = read(body.into_data_stream(), announced, limit, share, |error| unreadable(&error, limit)).await?;
    read.map_err(|TooLong { limit, .. }| too_large(limit))
}

/// Fails for a body that is packed, for what it unpacks to would have no limit yet, and for one that is said to be larger than
/// what would be thrown away, before any of it comes.
pub fn check(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    if announced(headers) > limit.saturating_mul(DISCARDED) {
        return Err(too_large(limit));
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    match encoding {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(encoding) => Err(ApiError::encoded(encoding)),
    }
}

/// Throws away what comes of a body, up to `limit` bytes.
pub async fn discard(mut chunks: impl Stream<Item = Result<Bytes, Error>> + Unpin, limit: usize) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = chunks.try_next().await {
        bytes += chunk.len();
        if bytes > limit {
            return;
        }
    }
}

/// Why a body was not read to its end.
pub fn unreadable(error: &Error, limit: usize) -> ApiError {
    caused(error, limit).unwrap_or_else(|| ApiError::malformed("the body cannot be read to its end"))
}

/// The limits that an error tells of, whatever wraps it.
pub fn caused(error: &(dyn StdError + 'static), limit: usize) -> Option<ApiError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Some(too_large(limit));
        }
        if error.is::<TimeoutError>() {
            return Some(ApiError::stalled());
        }
        if error.is::<HeadersTooLong>() {
            return Some(ApiError::malformed(error));
        }
        cause = error.source();
    }
    None
}

pub fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("the body has more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn what_is_held_is_counted_and_given_back() {
        let in_flight = InFlight::new(10);
        let share = in_flight.share();
        assert_eq!(whole(Request::new(Body::from("seven b")), 8, &share).await.unwrap(), "seven b");
        assert_eq!(in_flight.held(), 7);
        let other = in_flight.share();
        let error = whole(Request::new(Body::from("four")), 8, &other).await.unwrap_err();
        assert_eq!(error.status, 503);
        drop(share);
        assert_eq!(whole(Request::new(Body::from("four")), 8, &other).await.unwrap(), "four");
        assert_eq!(in_flight.held(), 4);
    }

    #[tokio::test]
    async fn what_is_held_is_until_the_answer_is_sent() {
        let in_flight = InFlight::new(10);
        let share = in_flight.share();
        share.grow(7).unwrap();
        let answer = held("answer".into_response(), share.into()).await;
        let sent = to_bytes(answer.into_body(), 10).await.unwrap();
        assert_eq!((&sent[..], in_flight.held()), (&b"answer"[..], 7));
        drop(sent);
        assert_eq!(in_flight.held(), 0);
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_held() {
        let in_flight = InFlight::new(100);
        let error = whole(Request::new(Body::from("nine byte")), 8, &in_flight.share()).await.unwrap_err();
        assert_eq!((error.status.as_u16(), in_flight.held()), (413, 0));

        let share = in_flight.share();
        assert_eq!(whole(Request::new(Body::from("seven b")), 8, &share).await.unwrap(), "seven b");
        let pieces = ["eight by", "te"].map(|piece| Ok::<_, Error>(Bytes::from(piece)));
        let pieces = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(whole(Request::new(pieces), 8, &share).await.unwrap_err().status, 413);
        assert_eq!(in_flight.held(), 7);
    }
}
