//! Static assets in memory, served with content type, caching, validator and byte ranges (RFC 9110, sections 13 and 14;
//! RFC 8246).

use crate::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use headers::{ContentLength, ContentRange, ETag, HeaderMapExt, IfNoneMatch, IfRange};
use http_range_header::{EndPosition, StartPosition, SyntacticallyCorrectRange, parse_range_header};
use std::ops::Range;

/// Bytes to serve, with the values of their headers.
pub struct StaticAsset {
    bytes: Bytes,
    content_type: HeaderValue,
    cache_control: HeaderValue,
    etag: ETag,
}

impl StaticAsset {
    /// Returns an asset whose URL contains its hash, so that it never changes.
    pub fn immutable(bytes: Bytes, content_type: &str, hash: &str) -> Self {
        Self::new(bytes, content_type, hash, "public, max-age=31536000, immutable")
    }

    /// Returns an asset whose URL may have other content later: clients cache it, but revalidate it each time.
    pub fn revalidated(bytes: Bytes, content_type: &str, hash: &str) -> Self {
        Self::new(bytes, content_type, hash, "no-cache")
    }

    fn new(bytes: Bytes, content_type: &str, hash: &str, cache_control: &'static str) -> Self {
        StaticAsset {
            bytes,
            content_type: HeaderValue::from_str(content_type).expect("content types are visible ASCII"),
            cache_control: HeaderValue::from_static(cache_control),
            etag: format!("\"{hash}\"").parse().expect("hashes are hexadecimal digits"),
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Responds to a GET or HEAD request with these headers: with the whole asset, the requested range, or 304 Not
    /// Modified.
    pub fn respond(&self, method: &Method, request: &HeaderMap) -> Response {
        if let Some(condition) = request.typed_get::<IfNoneMatch>()
            && !condition.precondition_passes(&self.etag)
        {
            return self.response(StatusCode::NOT_MODIFIED, Bytes::new());
        }
        let size = self.bytes.len() as u64;
        // Ranges are defined for GET only (RFC 9110, section 14.2).
        let range = if method == Method::GET { self.requested_range(request) } else { ByteRange::Whole };
        match range {
            ByteRange::Whole => self.response_with_length(StatusCode::OK, self.bytes.clone()),
            ByteRange::Partial(range) => {
                let bytes = self.bytes.slice(range.start as usize..range.end as usize);
                let mut response = self.response_with_length(StatusCode::PARTIAL_CONTENT, bytes);
                let range = ContentRange::bytes(range, size).expect("a satisfiable range is not empty");
                response.headers_mut().typed_insert(range);
                response
            }
            ByteRange::Unsatisfiable => {
                let mut response = ApiError::range_not_satisfiable(size).into_response();
                response.headers_mut().typed_insert(ContentRange::unsatisfied_bytes(size));
                response
            }
        }
    }

    fn requested_range(&self, request: &HeaderMap) -> ByteRange {
        // A client that resumes a download of other content needs the whole asset.
        let resumes_other_content =
            request.typed_get::<IfRange>().is_some_and(|condition| condition.is_modified(Some(&self.etag), None));
        let range = request.get(header::RANGE).and_then(|range| parse_range_header(range.to_str().ok()?).ok());
        // Malformed ranges and requests for several ranges may be ignored.
        match range.as_ref().map(|range| range.ranges.as_slice()) {
            Some([range]) if !resumes_other_content => resolve_range(range, self.bytes.len() as u64),
            _ => ByteRange::Whole,
        }
    }

    fn response_with_length(&self, status: StatusCode, bytes: Bytes) -> Response {
        let length = bytes.len() as u64;
        let mut response = self.response(status, bytes);
        response.headers_mut().typed_insert(ContentLength(length));
        response
    }

    fn response(&self, status: StatusCode, bytes: Bytes) -> Response {
        let mut response = (status, Body::from(bytes)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::CACHE_CONTROL, self.cache_control.clone());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.typed_insert(self.etag.clone());
        response
    }
}

/// The part of an asset to send.
#[derive(Debug, PartialEq)]
enum ByteRange {
    Whole,
    /// Not empty, and within the asset.
    Partial(Range<u64>),
    Unsatisfiable,
}

fn resolve_range(range: &SyntacticallyCorrectRange, size: u64) -> ByteRange {
    let start = match range.start {
        StartPosition::Index(index) => index,
        StartPosition::FromLast(count) => size.saturating_sub(count),
    };
    let end = match range.end {
        EndPosition::Index(last) if last < start => return ByteRange::Whole, // invalid, hence ignored
        EndPosition::Index(last) => last.saturating_add(1).min(size),
        EndPosition::LastByte => size,
    };
    if start < end { ByteRange::Partial(start..end) } else { ByteRange::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const HASH: &str = "c0ffee";

    /// Returns status, body and headers of the response to a GET request with these headers.
    async fn respond(headers: &[(header::HeaderName, &'static str)]) -> (u16, String, HeaderMap) {
        let content = StaticAsset::immutable(Bytes::from_static(b"0123456789"), "text/plain", HASH);
        let request = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        let (parts, body) = content.respond(&Method::GET, &request).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8(body.into()).unwrap(), parts.headers)
    }

    #[tokio::test]
    async fn whole_asset_has_length_validator_and_caching() {
        let (status, body, headers) = respond(&[]).await;
        assert_eq!((status, body.as_str()), (200, "0123456789"));
        assert_eq!(headers[header::CONTENT_LENGTH], "10");
        assert_eq!(headers[header::ETAG], "\"c0ffee\"");
        assert_eq!(headers[header::ACCEPT_RANGES], "bytes");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    }

    #[tokio::test]
    async fn single_ranges_are_partial_content() {
        for (range, part, content_range) in [
            ("bytes=0-3", "0123", "bytes 0-3/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
            ("bytes=8-18446744073709551615", "89", "bytes 8-9/10"),
            ("bytes=-2", "89", "bytes 8-9/10"),
            ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ] {
            let (status, body, headers) = respond(&[(header::RANGE, range)]).await;
            assert_eq!((status, body.as_str()), (206, part), "{range}");
            assert_eq!(headers[header::CONTENT_RANGE], content_range, "{range}");
            assert_eq!(headers[header::CONTENT_LENGTH], part.len().to_string(), "{range}");
        }
    }

    #[tokio::test]
    async fn range_beyond_the_end_is_rejected_with_the_size() {
        let (status, body, headers) = respond(&[(header::RANGE, "bytes=10-")]).await;
        assert_eq!((status, &headers[header::CONTENT_RANGE]), (416, &HeaderValue::from_static("bytes */10")));
        assert!(body.contains("range_not_satisfiable"), "{body}");
    }

    #[tokio::test]
    async fn invalid_and_multiple_ranges_are_ignored() {
        for range in ["bytes=5-2", "bytes=x", "items=0-3", "bytes=0-1,4-5", "bytes=-0"] {
            assert_eq!(respond(&[(header::RANGE, range)]).await.0, 200, "{range}");
        }
    }

    #[tokio::test]
    async fn matching_etags_return_not_modified() {
        for tag in ["\"c0ffee\"", "\"other\", \"c0ffee\"", "W/\"c0ffee\"", "*"] {
            let (status, body, headers) = respond(&[(header::IF_NONE_MATCH, tag)]).await;
            assert_eq!((status, body.as_str()), (304, ""), "{tag}");
            assert_eq!(headers[header::ETAG], "\"c0ffee\"");
        }
        assert_eq!(respond(&[(header::IF_NONE_MATCH, "\"other\"")]).await.0, 200);
    }

    #[tokio::test]
    async fn if_range_resumes_only_the_same_content() {
        let range = (header::RANGE, "bytes=5-");
        assert_eq!(respond(&[range.clone(), (header::IF_RANGE, "\"c0ffee\"")]).await.0, 206);
        let (status, body, _) = respond(&[range, (header::IF_RANGE, "\"other\"")]).await;
        assert_eq!((status, body.as_str()), (200, "0123456789"));
    }

    #[test]
    fn head_requests_ignore_ranges() {
        let content = StaticAsset::immutable(Bytes::from_static(b"0123456789"), "text/plain", HASH);
        let request = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=0-1"))]);
        assert_eq!(content.respond(&Method::HEAD, &request).status(), StatusCode::OK);
        assert_eq!(content.respond(&Method::GET, &request).status(), StatusCode::PARTIAL_CONTENT);
    }
}
