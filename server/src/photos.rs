//! The photos of a request: a form with the field `file`, once or often, or the body as it is. What a photo is, its bytes
//! say; neither `Content-Type` nor file names are asked.
//!
//! What is too large is read on and thrown away, up to a limit: a client that is still sending would not see an answer.

use crate::app::{App, UploadLimits};
use crate::error::ApiError;
use axum::RequestExt;
use axum::body::Body;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::LengthLimitError;
use model::preprocess::PhotoError;
use std::error::Error;
use std::sync::Arc;

/// The field of a form that holds a photo.
const FIELD: &str = "file";

/// At least one.
pub struct Photos(pub Vec<Result<Bytes, ApiError>>);

impl FromRequest<Arc<App>> for Photos {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let limits = &app.upload_limits;
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with("multipart/form-data"))
        {
            let form = Multipart::from_request(request, app).await;
            from_form(form.map_err(|rejection| ApiError::malformed(rejection.body_text()))?, limits).await
        } else {
            from_body(request.into_limited_body(), limits).await
        }
    }
}

async fn from_form(mut form: Multipart, limits: &UploadLimits) -> Result<Photos, ApiError> {
    let mut photos = Vec::new();
    let mut kept = 0;
    let mut refusal = None;
    while let Some(field) = form.next_field().await.map_err(|error| unreadable_form(error, limits))? {
        if field.name() != Some(FIELD) {
            continue;
        }
        let photo = read(field, limits.photo).await.map_err(|error| unreadable_form(error, limits))?;
        kept += photo.as_ref().map_or(0, Bytes::len);
        photos.push(photo);
        if photos.len() > limits.count {
            refusal = Some(ApiError::too_large(format!("at most {} photos are taken at once", limits.count)));
        } else if kept > limits.together {
            refusal = Some(ApiError::too_large(format!("at most {} bytes are taken at once", limits.together)));
        }
        if refusal.is_some() {
            (photos, kept) = (Vec::new(), 0);
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None if photos.is_empty() => {
            Err(ApiError::nothing_to_classify(format!("the form has no field `{FIELD}` with a photo in it")))
        }
        None => Ok(Photos(photos)),
    }
}

async fn from_body(body: Body, limits: &UploadLimits) -> Result<Photos, ApiError> {
    let photo = read(body.into_data_stream(), limits.photo).await.map_err(|error| unreadable_body(error, limits))?;
    match photo {
        Ok(bytes) if bytes.is_empty() => Err(ApiError::nothing_to_classify(format!(
            "the body is empty; send a photo as it is, or a form with photos in the field `{FIELD}`"
        ))),
        photo => Ok(Photos(vec![photo])),
    }
}

/// All bytes of a photo, or that they were more than `limit`.
async fn read<E>(
    mut chunks: impl Stream<Item = Result<Bytes, E>> + Unpin,
    limit: usize,
) -> Result<Result<Bytes, ApiError>, E> {
    let mut photo = Vec::new();
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await? {
        bytes += chunk.len();
        if bytes <= limit {
            photo.extend_from_slice(&chunk);
        } else {
            photo = Vec::new();
        }
    }
    Ok(if bytes <= limit { Ok(photo.into()) } else { Err(PhotoError::TooManyBytes { bytes, limit }.into()) })
}

fn unreadable_form(error: MultipartError, limits: &UploadLimits) -> ApiError {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => body_too_large(limits),
        _ => ApiError::malformed(format!("the form cannot be read: {}", error.body_text())),
    }
}

fn unreadable_body(error: axum::Error, limits: &UploadLimits) -> ApiError {
    match error.source() {
        Some(source) if source.is::<LengthLimitError>() => body_too_large(limits),
        _ => ApiError::malformed("the body cannot be read to its end"),
    }
}

fn body_too_large(limits: &UploadLimits) -> ApiError {
    ApiError::too_large(format!("the body has more than {} bytes", limits.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::UploadLimits;
    use crate::fixture::{app_with_limits, form};
    use axum::extract::DefaultBodyLimit;

    const LIMITS: UploadLimits = UploadLimits { photo: 10, together: 15, count: 3, body: 600 };

    /// The photos of a request to `/predict`: their bytes, or the code of why they were not kept.
    async fn photos(content_type: &str, body: impl Into<Body>) -> Result<Vec<Result<Bytes, String>>, String> {
        let request = Request::post("/predict").header(header::CONTENT_TYPE, content_type);
        let request = limited(request.body(body.into()).unwrap());
        let photos = Photos::from_request(request, &app_with_limits(LIMITS)).await.map_err(code)?;
        Ok(photos.0.into_iter().map(|photo| photo.map_err(code)).collect())
    }

    /// As the router does it for the route.
    fn limited(mut request: Request) -> Request {
        DefaultBodyLimit::max(LIMITS.body).apply(&mut request);
        request
    }

    fn code(error: ApiError) -> String {
        error.into_failure().error.code
    }

    async fn of_form(fields: &[(&str, &[u8])]) -> Result<Vec<Result<Bytes, String>>, String> {
        let (content_type, body) = form(fields);
        photos(content_type, body).await
    }

    #[tokio::test]
    async fn a_form_holds_photos_in_their_order() {
        let fields: [(&str, &[u8]); 4] = [("file", b"one"), ("comment", b"a cat"), ("file", b"two"), ("file", b"")];
        let photos = of_form(&fields).await.unwrap();
        assert_eq!(photos, [Ok("one".into()), Ok("two".into()), Ok("".into())]);
    }

    #[tokio::test]
    async fn a_body_is_a_photo_whatever_its_type() {
        for content_type in ["image/jpeg", "application/x-www-form-urlencoded", "application/json", "nonsense"] {
            assert_eq!(photos(content_type, "one").await.unwrap(), [Ok("one".into())], "{content_type}");
        }
    }

    #[tokio::test]
    async fn a_photo_that_is_too_large_fails_alone() {
        let photos = of_form(&[("file", b"eleven byte"), ("file", b"ten bytes.")]).await.unwrap();
        assert_eq!(photos, [Err("too_large".to_owned()), Ok("ten bytes.".into())]);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        assert_eq!(photos("image/jpeg", "eleven byte").await.unwrap(), [Err("too_large".to_owned())]);
    }

    #[tokio::test]
    async fn too_much_together_is_refused() {
        assert_eq!(of_form(&[("file", b"ten bytes."), ("file", b"six by")]).await.unwrap_err(), "too_large");
        assert_eq!(of_form(&[("file", &b"x"[..]); 4]).await.unwrap_err(), "too_large");
        assert_eq!(of_form(&[("comment", &[b'x'; 700])]).await.unwrap_err(), "too_large");
        assert_eq!(photos("image/jpeg", vec![b'x'; 700]).await.unwrap_err(), "too_large");
    }

    #[tokio::test]
    async fn nothing_to_classify_is_said() {
        assert_eq!(of_form(&[]).await.unwrap_err(), "nothing_to_classify");
        assert_eq!(of_form(&[("photo", b"one")]).await.unwrap_err(), "nothing_to_classify");
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
}
