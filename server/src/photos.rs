//! The photos of a request: a form with the field `file`, once or often; a JSON document (`documents`); or the body as it is.
//! What a photo is, its bytes say; neither their `Content-Type` nor file names are asked.

use crate::app::App;
use crate::body::{self, Share, TooLong};
use crate::documents;
use crate::error::ApiError;
use crate::form::Unparsed;
use axum::RequestExt;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;
use bytes::Bytes;
use futures_util::TryStreamExt;
use model::preprocess::PhotoError;
use std::sync::Arc;

/// The field of a form that holds a photo.
const FIELD: &str = "file";

/// At least one, with the room that their bytes take.
pub struct Photos {
    pub photos: Vec<Result<Bytes, ApiError>>,
    /// Whether the answer is a list: if there are several, or were asked for as one.
    pub is_list: bool,
    pub share: Arc<Share>,
}

/// What the photos of one request may cost, in encoded bytes.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Of one photo, and of all that is kept of a request.
    pub bytes: usize,
    pub count: usize,
}

impl FromRequest<Arc<App>> for Photos {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let limits = app.upload_limits;
        body::check(request.headers(), limits.bytes)?;
        let share = app.in_flight.share();
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().trim_start().to_ascii_lowercase();
        let photos = if content_type.starts_with("multipart/form-data") {
            of_form(request, limits, &share).await?
        } else if content_type.starts_with("application/json") {
            let json = body::whole(request, limits.bytes, &share).await?;
            let (share, length) = (Arc::new(share), json.len());
            let counted = share.clone();
            let (photos, is_list) =
                app.decoding.work(&share, move || documents::photos(&json, limits, &counted)).await??;
            // The document is gone, and nothing of the photos lies in it.
            share.shrink(length);
            return Ok(Photos { photos, is_list, share });
        } else {
            of_body(request, limits, &share).await?
        };
        Ok(Photos { is_list: photos.len() > 1, photos, share: share.into() })
    }
}

pub async fn of_form(
    request: Request,
    limits: UploadLimits,
    share: &Share,
) -> Result<Vec<Result<Bytes, ApiError>>, ApiError> {
    let (unparsed, request) = Unparsed::watch(request);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let mut photos = Vec::new();
    let mut kept = 0;
    let mut refusal = None;
    let unreadable = |error: MultipartError| {
        let limit = body::caused(&error, limits.bytes);
        limit.unwrap_or_else(|| ApiError::malformed(format!("the form cannot be read: {}", error.body_text())))
    };
    while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
        unparsed.clear();
        if field.name() != Some(FIELD) {
            while field.chunk().await.map_err(unreadable)?.is_some() {
                unparsed.clear();
            }
            continue;
        }
        let field = field.inspect_ok(|_| unparsed.clear());
        let photo = body::read(field, 0, limits.bytes, share, unreadable).await?.map_err(too_long);
        kept += photo.as_ref().map_or(0, Bytes::len);
        photos.push(photo);
        if photos.len() > limits.count {
            refusal = Some(too_many(limits));
        } else if kept > limits.bytes {
            refusal = Some(body::too_large(limits.bytes));
        }
        if refusal.is_some() {
            (photos, kept) = (Vec::new(), 0);
            share.clear();
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None if photos.is_empty() => {
            Err(ApiError::nothing_to_classify(format!("the form has no field `{FIELD}` with a photo in it")))
        }
        None => Ok(photos),
    }
}

async fn of_body(
    request: Request,
    limits: UploadLimits,
    share: &Share,
) -> Result<Vec<Result<Bytes, ApiError>>, ApiError> {
    let announced = body::announced(request.headers());
    let chunks = request.into_limited_body().into_data_stream();
    let photo =
        body::read(chunks, announced, limits.bytes, share, |error| body::unreadable(&error, limits.bytes)).await?;
    match photo {
        Ok(bytes) if bytes.is_empty() => Err(ApiError::nothing_to_classify(format!(
            "the body is empty; send a photo as it is, or a form with photos in the field `{FIELD}`"
        ))),
        photo => Ok(vec![photo.map_err(too_long)]),
    }
}

fn too_long(TooLong { bytes, limit }: TooLong) -> ApiError {
    PhotoError::TooManyBytes { bytes, limit }.into()
}

pub fn too_many(limits: UploadLimits) -> ApiError {
    ApiError::too_large(format!("at most {} photos are taken at once", limits.count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::InFlight;
    use crate::fixture::{app_with_limits, form};
    use crate::form::HEADERS;
    use axum::body::Body;
    use axum::extract::DefaultBodyLimit;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use futures_util::{StreamExt, stream};
    use serde_json::json;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMITS: UploadLimits = UploadLimits { bytes: 100, count: 3 };

    /// The photos of a request to `/predict`: their bytes, or the code of why they were not kept.
    async fn photos(content_type: &str, body: impl Into<Body>) -> Result<Vec<Result<Bytes, String>>, String> {
        let request = Request::post("/predict").header(header::CONTENT_TYPE, content_type);
        let request = limited(request.body(body.into()).unwrap());
        let photos = Photos::from_request(request, &app_with_limits(LIMITS)).await.map_err(code)?;
        Ok(photos.photos.into_iter().map(|photo| photo.map_err(code)).collect())
    }

    /// As the router does it for the route.
    fn limited(mut request: Request) -> Request {
        DefaultBodyLimit::max(LIMITS.bytes * body::DISCARDED).apply(&mut request);
        request
    }

    fn code(error: ApiError) -> String {
        error.into_failure().error.code
    }

    async fn of_fields(fields: &[(&str, &[u8])]) -> Result<Vec<Result<Bytes, String>>, String> {
        let (content_type, body) = form(fields);
        photos(content_type, body).await
    }

    #[tokio::test]
    async fn a_form_holds_photos_in_their_order() {
        let fields: [(&str, &[u8]); 3] = [("file", b"one"), ("comment", b"a cat"), ("file", b"")];
        let photos = of_fields(&fields).await.unwrap();
        assert_eq!(photos, [Ok("one".into()), Ok("".into())]);
    }

    #[tokio::test]
    async fn a_body_is_a_photo_whatever_its_type() {
        for content_type in ["image/jpeg", "application/x-www-form-urlencoded", "text/plain", "nonsense"] {
            assert_eq!(photos(content_type, "one").await.unwrap(), [Ok("one".into())], "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_document_holds_photos_in_base64() {
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
    async fn photos_of_a_document_are_held_and_it_is_not() {
        let limits = UploadLimits { bytes: 1000, count: 2 };
        for (document, held) in [
            (json!({ "image": STANDARD.encode([0; 300]) }), 300),
            (json!({ "images": [STANDARD.encode([0; 300]), STANDARD.encode([0; 150])] }), 450),
        ] {
            let app = app_with_limits(limits);
            let request = Request::post("/predict").header(header::CONTENT_TYPE, "application/json");
            let request = request.body(document.to_string().into()).unwrap();
            let photos = Photos::from_request(request, &app).await.unwrap();
            assert_eq!(app.in_flight.held(), held, "{document}");
            drop(photos);
            // The thread that read it lets go of it soon.
            while app.in_flight.held() > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_document_without_photos_is_refused() {
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
    async fn a_photo_that_is_too_large_fails_alone() {
        let photos = of_fields(&[("file", &[b'x'; 101]), ("file", b"ten bytes.")]).await.unwrap();
        assert_eq!(photos, [Err("too_large".to_owned()), Ok("ten bytes.".into())]);
    }

    #[tokio::test]
    async fn too_much_is_refused() {
        assert_eq!(photos("image/jpeg", vec![b'x'; 101]).await.unwrap(), [Err("too_large".to_owned())]);
        assert_eq!(photos("image/jpeg", vec![b'x'; 401]).await.unwrap_err(), "too_large");
        assert_eq!(photos("application/json", vec![b' '; 101]).await.unwrap_err(), "too_large");
        assert_eq!(of_fields(&[("file", &[b'x'; 60]), ("file", &[b'x'; 60])]).await.unwrap_err(), "too_large");
        assert_eq!(of_fields(&[("file", &b"x"[..]); 4]).await.unwrap_err(), "too_large");
        assert_eq!(of_fields(&[("comment", &[b'x'; 401])]).await.unwrap_err(), "too_large");
    }

    #[tokio::test]
    async fn nothing_to_classify_is_said() {
        assert_eq!(of_fields(&[]).await.unwrap_err(), "nothing_to_classify");
        assert_eq!(of_fields(&[("photo", b"one")]).await.unwrap_err(), "nothing_to_classify");
        assert_eq!(photos("image/jpeg", "").await.unwrap_err(), "nothing_to_classify");
    }

    #[tokio::test]
    async fn a_form_that_breaks_off_or_has_no_boundary_is_malformed() {
        let (content_type, mut body) = form(&[("file", b"one")]);
        body.truncate(body.len() - 20);
        assert_eq!(photos(content_type, body).await.unwrap_err(), "malformed_request");
        assert_eq!(photos("multipart/form-data", "one").await.unwrap_err(), "malformed_request");
        assert_eq!(photos("multipart/form-data; boundary=x", "no form").await.unwrap_err(), "malformed_request");
    }

    /// The photos of a form in pieces that are all there at once, and how many bytes of it were asked for.
    async fn in_pieces(size: usize, (content_type, body): (&str, Vec<u8>)) -> (Result<usize, String>, usize) {
        let limits = UploadLimits { bytes: 1 << 19, count: 3 };
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let pieces = stream::iter(body.chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let pieces = pieces.inspect(move |piece| {
            counted.fetch_add(piece.len(), Ordering::Relaxed);
        });
        let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
        let request = Request::post("/predict").header(header::CONTENT_TYPE, content_type).body(body).unwrap();
        let photos = of_form(request, limits, &InFlight::new(1 << 20).share()).await;
        let photos = photos.map_err(|error| error.into_failure().error.message);
        (photos.map(|photos| photos.len()), asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn what_comes_before_a_part_and_in_its_headers_has_a_limit() {
        let (content_type, body) = form(&[("file", b"one")]);
        let junk = vec![b'-'; 1 << 19];
        let preamble = [junk.as_slice(), b"\r\n", &body].concat();
        let headers = body.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
        let headers = [&body[..headers], b"X: ", &junk, b"\r\n", &body[headers..]].concat();
        for size in [100, 5000] {
            for body in [&preamble, &headers] {
                let (photos, asked) = in_pieces(size, (content_type, body.clone())).await;
                assert!(photos.unwrap_err().contains("before a part or in its headers"));
                assert!(asked <= HEADERS + 2 * size, "{asked} bytes were asked for in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn data_may_come_in_any_pieces() {
        let data = b"data\r\n".repeat(50_000);
        let fields: [(&str, &[u8]); 4] = [("comment", &data), ("file", &data), ("comment", &data), ("file", b"one")];
        for size in [100, 5000, 1 << 20] {
            assert_eq!(in_pieces(size, form(&fields)).await.0, Ok(2), "in pieces of {size}");
        }
    }
}
