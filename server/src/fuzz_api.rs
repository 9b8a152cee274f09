//! Entry points for fuzzing (`fuzz/`): the parsers of untrusted bytes. Compiled for the fuzzer and for tests only.
//!
//! The limits are small, so that fuzzed inputs exceed them, and so that a form can be fed byte by byte quickly.

use crate::body::DISCARD_FACTOR;
use crate::error::ApiError;
use crate::memory::MemoryBudget;
use crate::routes::v2::tensors::{self, ExpectedInput};
use crate::upload::{self, UploadLimits, UploadedPhotos};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::engine::Input;
use model::prediction::Failure;
use std::convert::Infallible;

/// Maximum number of photos in a request.
pub const MAX_PHOTOS: usize = 4;

/// Maximum size of one photo, and of all photos of a request, in bytes.
pub const MAX_PHOTO_BYTES: usize = 1 << 9;

/// Maximum size of a form, including what is discarded, in bytes.
pub const MAX_FORM_BYTES: usize = MAX_PHOTO_BYTES * DISCARD_FACTOR;

/// Maximum number of images in an inference request.
pub const MAX_IMAGES: usize = 8;

/// Height and width of the images of an inference request, in pixels.
pub const SIDE: usize = 4;

/// Memory budget in bytes, far more than the other limits allow.
const MEMORY_BUDGET: usize = 1 << 24;

const LIMITS: UploadLimits = UploadLimits { bytes: MAX_PHOTO_BYTES, count: MAX_PHOTOS };

/// Either the photos of a request, each as it was sent or why it was rejected; or why the request was rejected.
pub type Photos = Result<Vec<Result<Bytes, Failure>>, Failure>;

/// Parses a JSON document. Also returns the number of bytes that are reserved for its photos.
pub fn parse_json(body: &[u8]) -> (Photos, usize) {
    let budget = MemoryBudget::new(MEMORY_BUDGET);
    let upload = upload::parse_photos(body, LIMITS, &budget);
    let reserved = budget.reserved();
    (into_photos(upload), reserved)
}

/// Parses an inference request whose JSON header has `json_length` bytes, or which is JSON as a whole.
///
/// # Errors
/// Returns the error that a client would receive.
pub fn parse_tensors(body: &[u8], json_length: Option<usize>) -> Result<Vec<Input>, Failure> {
    let expected = ExpectedInput { side: SIDE, max_images: MAX_IMAGES, mean: [0.5; 3], std: [0.5; 3] };
    let parsed = tensors::parse(body, json_length, expected, &MemoryBudget::new(MEMORY_BUDGET));
    parsed.map(|(request, _)| request.images).map_err(ApiError::into_failure)
}

/// Parses a form with this `Content-Type`. Also returns the number of bytes that are reserved for its photos.
pub async fn parse_multipart(content_type: &[u8], body: impl Stream<Item = Bytes> + Send + 'static) -> (Photos, usize) {
    let budget = MemoryBudget::new(MEMORY_BUDGET);
    let body = Body::from_stream(body.map(Ok::<_, Infallible>));
    let request = Request::builder().header(header::CONTENT_TYPE, content_type).body(body);
    let read = async {
        let mut request = request.map_err(ApiError::malformed)?;
        DefaultBodyLimit::max(MAX_FORM_BYTES).apply(&mut request);
        upload::read_form(request, LIMITS, &budget).await
    };
    let upload = read.await;
    let reserved = budget.reserved();
    (into_photos(upload), reserved)
}

fn into_photos(upload: Result<UploadedPhotos, ApiError>) -> Photos {
    let photos = upload.map_err(ApiError::into_failure)?.photos;
    Ok(photos.into_iter().map(|photo| photo.map_err(ApiError::into_failure)).collect())
}
