//! What eats the bytes of strangers, for who tries it with yet stranger ones. Nothing else needs it.

use crate::photos::{self, UploadLimits};
use crate::routes::v2::{self, Expected};
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header;

/// A JSON document with photos; how many there are.
pub fn json(body: &[u8]) -> Option<usize> {
    let limits = UploadLimits { bytes: 1 << 20, count: 32 };
    photos::of_json(body, limits).ok().map(|photos| photos.len())
}

/// An inference request whose JSON has `json` bytes, if not all of it; how many images there are.
pub fn tensors(body: &[u8], json: Option<usize>) -> Option<usize> {
    let expected = Expected { side: 4, images: 8, mean: [0.5; 3], std: [0.5; 3] };
    v2::parse(body, json, expected).ok().map(|asked| asked.images.len())
}

/// A form with this boundary; how many bytes its photos have.
pub async fn multipart(body: &[u8], boundary: &str) -> Option<usize> {
    let kind = format!("multipart/form-data; boundary={boundary}");
    let request = Request::builder().header(header::CONTENT_TYPE, kind).body(Body::from(body.to_vec())).ok()?;
    let form = Multipart::from_request(request, &()).await.ok()?;
    let limits = UploadLimits { bytes: 1 << 20, count: 32 };
    let photos = photos::of_form(form, limits, &mut crate::body::InFlight::new(1 << 24).share()).await.ok()?;
    Some(photos.into_iter().flatten().map(|photo| photo.len()).sum())
}
