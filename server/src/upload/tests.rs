use super::multipart_guard::MAX_HEADER_BYTES;
use super::*;
use crate::fixture::{app_with_limits, form};
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LIMITS: UploadLimits = UploadLimits { bytes: 100, count: 3 };

/// Reads the photos of a request. Returns their bytes, or the error codes of those that were rejected.
async fn photos(content_type: &str, body: impl Into<Body>) -> Result<Vec<Result<Bytes, String>>, String> {
    let request = Request::post("/predict").header(header::CONTENT_TYPE, content_type);
    let mut request = request.body(body.into()).unwrap();
    // The router applies the same limit to the route.
    DefaultBodyLimit::max(LIMITS.bytes * body::DISCARD_FACTOR).apply(&mut request);
    let app = app_with_limits(LIMITS);
    let upload = read_photos(request, LIMITS, &app.memory, &app.decode_pool).await.map_err(code)?;
    Ok(upload.photos.into_iter().map(|photo| photo.map_err(code)).collect())
}

fn code(error: ApiError) -> String {
    error.into_failure().error.code
}

async fn photos_of_form(fields: &[(&str, &[u8])]) -> Result<Vec<Result<Bytes, String>>, String> {
    let (content_type, body) = form(fields);
    photos(content_type, body).await
}

#[tokio::test]
async fn form_photos_keep_their_order() {
    let fields: [(&str, &[u8]); 3] = [("file", b"one"), ("image", b"two"), ("file", b"")];
    let photos = photos_of_form(&fields).await.unwrap();
    assert_eq!(photos, [Ok("one".into()), Ok("two".into()), Ok("".into())]);
}

/// Encodes a form of which only the fields whose content is a photo have a file name.
fn form_with_texts(fields: &[(&str, &str, bool)]) -> (&'static str, String) {
    let part = |(name, content, is_file): &(&str, &str, bool)| {
        let file_name = if *is_file { "; filename=\"x\"" } else { "" };
        format!("--frontier\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n{content}\r\n")
    };
    let parts: String = fields.iter().map(part).collect();
    ("multipart/form-data; boundary=frontier", parts + "--frontier--\r\n")
}

#[tokio::test]
async fn parts_with_a_file_name_are_photos_under_any_name() {
    let (content_type, body) = form_with_texts(&[
        ("comment", "a cat", false),
        ("image", "one", true),
        ("file", "two", false),
        ("", "three", true),
    ]);
    let expected = ["one", "two", "three"].map(|photo| Ok(photo.into()));
    assert_eq!(photos(content_type, body).await.unwrap(), expected);
}

#[tokio::test]
async fn forms_without_photos_are_rejected_with_their_fields() {
    let (_, body) = form_with_texts(&[("photo", "one", false), ("a\u{e4}", "two", false)]);
    let message =
        read_in_chunks(1000, ("multipart/form-data; boundary=frontier", body.into_bytes())).await.0.unwrap_err();
    assert!(message.ends_with("without a file name: \"photo\", \"a\u{e4}\""), "{message}");
    let many: Vec<_> = (0..12).map(|_| ("field", "x", false)).collect();
    let (content_type, body) = form_with_texts(&many);
    let message = read_in_chunks(1000, (content_type, body.into_bytes())).await.0.unwrap_err();
    assert!(message.ends_with(r#""field" and 2 more"#), "{message}");
    let message = read_in_chunks(1000, form(&[])).await.0.unwrap_err();
    assert!(message.ends_with("the form is empty"), "{message}");
}

#[tokio::test]
async fn any_other_content_type_is_a_photo() {
    for content_type in ["image/jpeg", "application/x-www-form-urlencoded", "text/plain", "nonsense"] {
        assert_eq!(photos(content_type, "one\0").await.unwrap(), [Ok("one\0".into())], "{content_type}");
    }
    assert_eq!(photos("application/x-www-form-urlencoded", "one").await.unwrap_err(), "malformed_request");
}

#[tokio::test]
async fn json_documents_hold_photos_in_base64() {
    for (document, expected) in [
        (json!({ "image": "b25l" }), vec![Ok("one".into())]),
        (json!({ "image": "data:image/png;base64,b25l" }), vec![Ok("one".into())]),
        (json!({ "images": ["b25l", "dHdv"] }), vec![Ok("one".into()), Ok("two".into())]),
        (json!({ "image": null, "images": ["b25l"] }), vec![Ok("one".into())]),
        (json!({ "images": ["b25l", "?"] }), vec![Ok("one".into()), Err("malformed_request".to_owned())]),
    ] {
        assert_eq!(photos("application/json", document.to_string()).await.unwrap(), expected, "{document}");
    }
}

#[tokio::test]
async fn memory_is_reserved_for_the_photos_of_a_document_but_not_for_the_document() {
    let limits = UploadLimits { bytes: 1000, count: 2 };
    for (document, reserved) in [
        (json!({ "image": STANDARD.encode([0; 300]) }), 300),
        (json!({ "images": [STANDARD.encode([0; 300]), STANDARD.encode([0; 150])] }), 450),
    ] {
        let app = app_with_limits(limits);
        let request = Request::post("/predict").header(header::CONTENT_TYPE, "application/json");
        let request = request.body(document.to_string().into()).unwrap();
        let upload = read_photos(request, limits, &app.memory, &app.decode_pool).await.unwrap();
        assert_eq!(app.memory.reserved(), reserved, "{document}");
        drop(upload);
        assert_eq!(app.memory.reserved(), 0, "{document}");
    }
}

#[tokio::test]
async fn documents_without_photos_are_rejected() {
    for (document, expected) in [
        ("{}", "nothing_to_classify"),
        (r#"{"images": []}"#, "nothing_to_classify"),
        (r#"{"image": "b25l", "images": ["b25l"]}"#, "malformed_request"),
        (r#"{"image": 1}"#, "malformed_request"),
        (r#"{"photo": "b25l"}"#, "malformed_request"),
        (r#"{"images": ["", "", "", ""]}"#, "too_large"),
        ("", "malformed_request"),
    ] {
        assert_eq!(photos("application/json; charset=utf-8", document).await.unwrap_err(), expected, "{document}");
    }
}

#[tokio::test]
async fn a_photo_that_is_too_large_fails_by_itself() {
    let photos = photos_of_form(&[("file", &[b'x'; 101]), ("file", b"ten bytes.")]).await.unwrap();
    assert_eq!(photos, [Err("too_large".to_owned()), Ok("ten bytes.".into())]);
}

#[tokio::test]
async fn requests_beyond_the_limits_are_rejected() {
    assert_eq!(photos("image/jpeg", vec![b'x'; 101]).await.unwrap(), [Err("too_large".to_owned())]);
    assert_eq!(photos("image/jpeg", vec![b'x'; 401]).await.unwrap_err(), "too_large");
    assert_eq!(photos("application/json", vec![b' '; 101]).await.unwrap_err(), "too_large");
    assert_eq!(photos_of_form(&[("file", &[b'x'; 60]), ("file", &[b'x'; 60])]).await.unwrap_err(), "too_large");
    assert_eq!(photos_of_form(&[("file", &b"x"[..]); 4]).await.unwrap_err(), "too_large");
    assert_eq!(photos_of_form(&[("file", &[b'x'; 401])]).await.unwrap_err(), "too_large");
}

#[tokio::test]
async fn requests_without_photos_are_rejected() {
    assert_eq!(photos_of_form(&[]).await.unwrap_err(), "nothing_to_classify");
    let (content_type, body) = form_with_texts(&[("photo", "one", false)]);
    assert_eq!(photos(content_type, body).await.unwrap_err(), "nothing_to_classify");
    assert_eq!(photos("image/jpeg", "").await.unwrap_err(), "nothing_to_classify");
}

#[tokio::test]
async fn truncated_forms_and_forms_without_a_boundary_are_malformed() {
    let (content_type, mut body) = form(&[("file", b"one")]);
    body.truncate(body.len() - 20);
    assert_eq!(photos(content_type, body).await.unwrap_err(), "malformed_request");
    assert_eq!(photos("multipart/form-data", "one").await.unwrap_err(), "malformed_request");
    assert_eq!(photos("multipart/form-data; boundary=x", "no form").await.unwrap_err(), "malformed_request");
}

/// Reads a form in chunks that are all available at once. Returns the number of its photos, or the error message, and
/// how many bytes were read.
async fn read_in_chunks(size: usize, (content_type, body): (&str, Vec<u8>)) -> (Result<usize, String>, usize) {
    let limits = UploadLimits { bytes: 1 << 19, count: 3 };
    let bytes_read = Arc::new(AtomicUsize::new(0));
    let counter = bytes_read.clone();
    let chunks = stream::iter(body.chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>());
    let chunks = chunks.inspect(move |chunk| {
        counter.fetch_add(chunk.len(), Ordering::Relaxed);
    });
    let body = Body::from_stream(chunks.map(Ok::<_, Infallible>));
    let request = Request::post("/predict").header(header::CONTENT_TYPE, content_type).body(body).unwrap();
    let upload = multipart::read_photos(request, limits, &MemoryBudget::new(1 << 20)).await;
    let photos = upload.map(|upload| upload.photos.len()).map_err(|error| error.into_failure().error.message);
    (photos, bytes_read.load(Ordering::Relaxed))
}

#[tokio::test]
async fn bytes_before_a_part_and_in_its_headers_are_limited() {
    let (content_type, body) = form(&[("file", b"one")]);
    let junk = vec![b'-'; 1 << 19];
    let preamble = [junk.as_slice(), b"\r\n", &body].concat();
    let headers = body.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
    let headers = [&body[..headers], b"X: ", &junk, b"\r\n", &body[headers..]].concat();
    for size in [100, 5000] {
        for body in [&preamble, &headers] {
            let (photos, bytes_read) = read_in_chunks(size, (content_type, body.clone())).await;
            assert!(photos.unwrap_err().contains("before a part or in the headers of a part"));
            assert!(bytes_read <= MAX_HEADER_BYTES + 2 * size, "{bytes_read} bytes were read in chunks of {size}");
        }
    }
}

#[tokio::test]
async fn forms_may_arrive_in_chunks_of_any_size() {
    let data = b"data\r\n".repeat(50_000);
    let data = String::from_utf8(data).unwrap();
    let fields = [("comment", &*data, false), ("file", &data, true), ("comment", &data, false), ("file", "one", true)];
    for size in [100, 5000, 1 << 20] {
        let (content_type, body) = form_with_texts(&fields);
        assert_eq!(read_in_chunks(size, (content_type, body.into_bytes())).await.0, Ok(2), "in chunks of {size}");
    }
}
