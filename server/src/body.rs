//! Reads request bodies within limits: on the size of one body, and on the memory of all requests in flight.
//!
//! A body that is too large is read further and discarded, up to a second limit: a client that is still sending would
//! not see the response.

use crate::error::ApiError;
use crate::memory::{MemoryBudget, Reservation};
use axum::Error;
use axum::RequestExt;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use headers::{ContentLength, HeaderMapExt};
use http_body_util::LengthLimitError;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use tower_http::timeout::TimeoutError;

/// Maximum size of a body, including what is discarded, as a multiple of the limit on what is kept. The connection of a
/// client that sends more is closed.
pub const DISCARD_FACTOR: usize = 4;

/// Maximum capacity that is allocated because of `Content-Length` alone, in bytes. The buffers of larger bodies grow as
/// the bodies arrive.
const MAX_PREALLOCATION: usize = 1 << 20;

/// Number of bytes by which a form with a photo of the maximum size may exceed the limit on photos: its boundaries,
/// headers and other fields.
const MAX_FRAMING: usize = 64 << 10;

/// A body and the memory reserved for it.
#[derive(Debug)]
pub struct ReceivedBody {
    pub bytes: Bytes,
    pub reservation: Reservation,
}

/// The size of a body that exceeds its limit, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct TooLong {
    pub bytes: usize,
    pub limit: usize,
}

/// Reads a stream of bytes to its end. The inner result is an error if the stream has more than `limit` bytes, which
/// are then discarded. `content_length` is the announced length, zero if unknown.
///
/// # Errors
/// Returns the errors of the stream, mapped by `stream_error`, and 503 if the memory budget is exhausted.
pub async fn read<E>(
    mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    content_length: usize,
    limit: usize,
    budget: &MemoryBudget,
    stream_error: impl Fn(E) -> ApiError,
) -> Result<Result<ReceivedBody, TooLong>, ApiError> {
    let mut buffer = BytesMut::with_capacity(content_length.min(limit).min(MAX_PREALLOCATION));
    let mut reservation = budget.empty_reservation();
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await.map_err(&stream_error)? {
        bytes += chunk.len();
        if bytes <= limit {
            reservation.grow(chunk.len())?;
            buffer.extend_from_slice(&chunk);
        } else {
            (buffer, reservation) = (BytesMut::new(), budget.empty_reservation());
        }
    }
    Ok(if bytes <= limit {
        Ok(ReceivedBody { bytes: buffer.freeze(), reservation })
    } else {
        Err(TooLong { bytes, limit })
    })
}

/// Reads the body of a request to its end. The inner result is an error if it has more than `limit` bytes.
///
/// # Errors
/// Returns an error if the body cannot be read to its end, and 503 if the memory budget is exhausted.
pub async fn read_request(
    request: Request,
    limit: usize,
    budget: &MemoryBudget,
) -> Result<Result<ReceivedBody, TooLong>, ApiError> {
    let content_length = content_length(request.headers());
    let stream = request.into_limited_body().into_data_stream();
    read(stream, content_length, limit, budget, |error| read_error(&error, limit)).await
}

/// Like [`read_request`], with 413 for a body of more than `limit` bytes.
pub async fn read_all(request: Request, limit: usize, budget: &MemoryBudget) -> Result<ReceivedBody, ApiError> {
    read_request(request, limit, budget).await?.map_err(|TooLong { limit, .. }| too_large(limit))
}

/// Returns the announced length of the body in bytes, or zero if there is none.
pub fn content_length(headers: &HeaderMap) -> usize {
    headers.typed_get::<ContentLength>().map_or(0, |length| usize::try_from(length.0).unwrap_or(usize::MAX))
}

/// Checks the headers before any of the body is read.
///
/// # Errors
/// Returns 415 for a body in an encoding that `decompress` has left, and 413 if `Content-Length` exceeds what would be
/// discarded, or the limit itself if the client waits for permission to send the body.
pub fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let max = if headers.contains_key(header::EXPECT) {
        limit.saturating_add(MAX_FRAMING)
    } else {
        limit.saturating_mul(DISCARD_FACTOR)
    };
    if content_length(headers) > max {
        return Err(too_large(limit));
    }
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?"));
    match encoding {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
        Some(encoding) => Err(ApiError::unsupported_encoding(encoding)),
    }
}

/// Reads and discards the rest of a body, up to `limit` bytes.
pub async fn discard(mut chunks: impl Stream<Item = Result<Bytes, Error>> + Unpin, limit: usize) {
    let mut bytes = 0;
    while let Ok(Some(chunk)) = chunks.try_next().await {
        bytes += chunk.len();
        if bytes > limit {
            return;
        }
    }
}

/// Maps an error of a body's stream.
fn read_error(error: &Error, limit: usize) -> ApiError {
    let is_data_error = |error: &&io::Error| matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput);
    limit_error(error, limit).unwrap_or_else(|| match find_cause::<io::Error>(error).filter(is_data_error) {
        Some(error) => ApiError::malformed(format!("invalid compressed request body: {error}")),
        None => ApiError::malformed("failed to read the request body to its end"),
    })
}

/// Returns the API error for a size limit or timeout that `error` was caused by, if there is one.
pub fn limit_error(error: &(dyn StdError + 'static), limit: usize) -> Option<ApiError> {
    if find_cause::<LengthLimitError>(error).is_some() {
        return Some(too_large(limit));
    }
    find_cause::<TimeoutError>(error).map(|_| ApiError::stalled())
}

/// Returns the first error of type `E` in the chain of sources, starting with `error` itself.
pub fn find_cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// Returns the error for a body of more than `limit` bytes: 413.
pub fn too_large(limit: usize) -> ApiError {
    ApiError::too_large(format!("request body is larger than the limit of {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[tokio::test]
    async fn memory_of_a_body_is_reserved_until_it_is_dropped() {
        let budget = MemoryBudget::new(10);
        let first = read_all(Request::new(Body::from("seven b")), 8, &budget).await.unwrap();
        assert_eq!((&first.bytes[..], budget.reserved()), (&b"seven b"[..], 7));
        let error = read_all(Request::new(Body::from("four")), 8, &budget).await.unwrap_err();
        assert_eq!(error.status, 503);
        drop(first);
        let second = read_all(Request::new(Body::from("four")), 8, &budget).await.unwrap();
        assert_eq!((&second.bytes[..], budget.reserved()), (&b"four"[..], 4));
    }

    #[tokio::test]
    async fn no_memory_is_reserved_for_a_body_that_is_too_long() {
        let budget = MemoryBudget::new(100);
        let error = read_all(Request::new(Body::from("nine byte")), 8, &budget).await.unwrap_err();
        assert_eq!((error.status.as_u16(), budget.reserved()), (413, 0));

        let other = read_all(Request::new(Body::from("seven b")), 8, &budget).await.unwrap();
        let chunks = ["eight by", "te"].map(|chunk| Ok::<_, Error>(Bytes::from(chunk)));
        let chunks = Body::from_stream(futures_util::stream::iter(chunks));
        assert_eq!(read_all(Request::new(chunks), 8, &budget).await.unwrap_err().status, 413);
        assert_eq!(budget.reserved(), 7);
        drop(other);
    }
}
