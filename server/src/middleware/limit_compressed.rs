//! Limits compressed request bodies, before `RequestDecompressionLayer` decompresses them. The limits on decompressed bodies
//! do not apply to them: headers and empty blocks take any number of bytes without yielding data.

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::Limited;
use std::sync::Arc;

/// Responds with 413 to a compressed body of more bytes than the limit on the decompressed body. Bodies without encoding
/// are left unchanged.
pub async fn limit_compressed(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if !request.headers().contains_key(header::CONTENT_ENCODING) {
        return Ok(next.run(request).await);
    }
    let limit = app.upload_limits.bytes;
    if body::content_length(request.headers()) > limit {
        return Err(body::too_large(limit));
    }
    Ok(next.run(request.map(|body| Body::new(Limited::new(body, limit)))).await)
}

#[cfg(test)]
mod tests {
    use crate::app::App;
    use crate::fixture::{TestResponse, app, app_with_limits, photo, send};
    use crate::upload::UploadLimits;
    use axum::body::Body;
    use axum::http::{Request, header};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::sync::Arc;

    /// 100,000 zero bytes, compressed by gzip.
    const ZEROS: &str = "H4sIAAAAAAACA+3BMQEAAADCoPVPbQ0PoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIBXA32VEdSghgEA";

    async fn post(app: &Arc<App>, encoding: &str, body: Vec<u8>) -> TestResponse {
        let request = Request::post("/predict").header(header::CONTENT_ENCODING, encoding);
        send(app, request.body(Body::from(body)).unwrap()).await
    }

    /// Wraps bytes in a gzip file or a zlib stream with stored blocks, without compression.
    fn stored(encoding: &str, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap();
        let block = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), data].concat();
        if encoding == "gzip" {
            let crc = data.iter().fold(!0u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
            });
            let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            return [&head[..], &block, &(!crc).to_le_bytes(), &u32::from(length).to_le_bytes()].concat();
        }
        let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        [&[0x78, 0x01][..], &block, &((b << 16) | a).to_be_bytes()].concat()
    }

    #[tokio::test]
    async fn gzip_and_deflate_are_decompressed() {
        for encoding in ["gzip", "deflate"] {
            let response = post(&app(), encoding, stored(encoding, &photo(7))).await;
            assert_eq!(response.status, 200, "{encoding}: {}", response.body);
            assert_eq!(response.json()["predictions"][0]["index"], 7);
        }
        let response = post(&app(), "identity", photo(7)).await;
        assert_eq!(response.status, 200, "{}", response.body);
    }

    #[tokio::test]
    async fn other_encodings_are_rejected_with_the_supported_ones() {
        let response = post(&app(), "br", photo(7)).await;
        assert_eq!((response.status, response.code().as_str()), (415, "unsupported_encoding"));
        assert_eq!(response.headers[header::ACCEPT_ENCODING], "gzip, deflate");
    }

    #[tokio::test]
    async fn limits_apply_to_the_decompressed_and_the_compressed_size() {
        let app = app_with_limits(UploadLimits { bytes: 1000, count: 1 });
        let zeros = STANDARD.decode(ZEROS).unwrap();
        assert!(zeros.len() < 1000);
        // Empty blocks yield no data.
        let mut empty_blocks = vec![0x78, 0x01];
        (0..1000).for_each(|_| empty_blocks.extend([0, 0, 0, 0xff, 0xff]));
        for (encoding, body) in [("gzip", zeros), ("deflate", empty_blocks)] {
            let response = post(&app, encoding, body).await;
            assert_eq!((response.status, response.code().as_str()), (413, "too_large"), "{encoding}");
        }
        assert_eq!(app.memory.reserved(), 0);
    }

    #[tokio::test]
    async fn invalid_data_is_malformed() {
        for (encoding, body) in
            [("gzip", photo(0)), ("deflate", photo(0)), ("gzip", stored("gzip", &photo(0))[..60].to_vec())]
        {
            let response = post(&app(), encoding, body).await;
            assert_eq!((response.status, response.code().as_str()), (400, "malformed_request"), "{}", response.body);
        }
    }
}
