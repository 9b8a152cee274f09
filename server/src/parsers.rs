//! What eats the bytes of strangers, for who tries it with yet stranger ones (`fuzz/`). Nothing else needs it.
//!
//! The limits are small, so that what a fuzzer makes up goes beyond them, and a form soon comes byte by byte.

use crate::body::{DISCARDED, InFlight};
use crate::documents;
use crate::error::ApiError;
use crate::photos::{self, UploadLimits};
use crate::routes::v2::{self, Expected};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::engine::Input;
use model::prediction::Failure;
use std::convert::Infallible;

/// Photos of a request at most.
pub const PHOTOS: usize = 4;

/// Bytes at most of one photo, and of all.
pub const PHOTO_BYTES: usize = 1 << 9;

/// Bytes at most of a form, with what is thrown away.
pub const FORM_BYTES: usize = PHOTO_BYTES * DISCARDED;

/// Images at most of an inference request, each of so many pixels a side.
pub const IMAGES: usize = 8;
pub const SIDE: usize = 4;

/// Bytes that may be held, far more than these limits let through.
const HELD: usize = 1 << 24;

const LIMITS: UploadLimits = UploadLimits { bytes: PHOTO_BYTES, count: PHOTOS };

/// The photos of a request, each as it was sent or why it is none, or why there are none.
pub type Photos = Result<Vec<Result<Bytes, Failure>>, Failure>;

/// Of a JSON document, and the bytes that are counted as held for them then.
pub fn json(body: &[u8]) -> (Photos, usize) {
    let in_flight = InFlight::new(HELD);
    let share = in_flight.share();
    (answered(documents::photos(body, LIMITS, &share).map(|(photos, _)| photos)), in_flight.held())
}

/// The images of an inference request whose JSON has `json` bytes, if not all of it.
///
/// # Errors
/// What a client is told.
pub fn tensors(body: &[u8], json: Option<usize>) -> Result<Vec<Input>, Failure> {
    let expected = Expected { side: SIDE, images: IMAGES, mean: [0.5; 3], std: [0.5; 3] };
    let asked = v2::parse(body, json, expected, &InFlight::new(HELD).share());
    asked.map(|asked| asked.images).map_err(ApiError::into_failure)
}

/// Of a form of this `Content-Type`, and the bytes that are counted as held for it then.
pub async fn multipart(content_type: &[u8], body: impl Stream<Item = Bytes> + Send + 'static) -> (Photos, usize) {
    let in_flight = InFlight::new(HELD);
    let share = in_flight.share();
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    let request = Request::builder().header(header::CONTENT_TYPE, content_type).body(body);
    let photos = async {
        let mut request = request.map_err(ApiError::malformed)?;
        DefaultBodyLimit::max(FORM_BYTES).apply(&mut request);
        photos::of_form(request, LIMITS, &share).await
    };
    (answered(photos.await), in_flight.held())
}

fn answered(photos: Result<Vec<Result<Bytes, ApiError>>, ApiError>) -> Photos {
    let photos = photos.map_err(ApiError::into_failure)?;
    Ok(photos.into_iter().map(|photo| photo.map_err(ApiError::into_failure)).collect())
}
