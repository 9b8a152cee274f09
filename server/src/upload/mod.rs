//! Reads the photos of a request: from a multipart form, from a JSON document, or as the whole body. The format of a
//! photo is detected from its bytes; neither its `Content-Type` nor its file name is considered.

mod base64_photo;
mod json;
mod multipart;
mod multipart_guard;
mod photos;
mod text_body;

pub use json::{JsonPhotos, parse_photos};
#[cfg(any(test, fuzzing))]
pub use multipart::read_photos as read_form;
pub use photos::{BodyOptions, UploadLimits, UploadedPhotos};

use crate::body;
use crate::decode_pool::DecodePool;
use crate::error::ApiError;
use crate::memory::MemoryBudget;
use axum::extract::Request;
use axum::http::header;
use photos::photo_too_large;

/// Reads the photos of a request. JSON is parsed on `decode_pool`.
///
/// # Errors
/// Returns an error if the body cannot be read, has no photos, or exceeds `limits` or the memory budget.
pub async fn read_photos(
    request: Request,
    limits: UploadLimits,
    budget: &MemoryBudget,
    decode_pool: &DecodePool,
) -> Result<UploadedPhotos, ApiError> {
    body::check_headers(request.headers(), limits.bytes)?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().trim_start().to_ascii_lowercase();
    if content_type.starts_with("multipart/form-data") {
        multipart::read_photos(request, limits, budget).await
    } else if content_type.starts_with("application/json") {
        read_json(request, limits, budget, decode_pool).await
    } else {
        let is_form = content_type.starts_with("application/x-www-form-urlencoded");
        read_raw(request, is_form, limits, budget).await
    }
}

async fn read_json(
    request: Request,
    limits: UploadLimits,
    budget: &MemoryBudget,
    decode_pool: &DecodePool,
) -> Result<UploadedPhotos, ApiError> {
    let document = body::read_all(request, limits.bytes, budget).await?;
    let budget = budget.clone();
    decode_pool.run(document.reservation, move || parse_photos(&document.bytes, limits, &budget)).await?
}

/// Reads a body that is a photo. `is_form` is whether it has the content type of a form without files, which curl sends
/// by default.
async fn read_raw(
    request: Request,
    is_form: bool,
    limits: UploadLimits,
    budget: &MemoryBudget,
) -> Result<UploadedPhotos, ApiError> {
    let (photo, reservation) = match body::read_request(request, limits.bytes, budget).await? {
        Ok(body) if body.bytes.is_empty() => {
            return Err(ApiError::nothing_to_classify(format!(
                "the request body is empty; send a photo as the body, or a form with photos in the field `{}`",
                multipart::FIELD
            )));
        }
        Ok(body) => {
            text_body::check(&body.bytes, is_form)?;
            (Ok(body.bytes), body.reservation)
        }
        Err(too_long) => (Err(photo_too_large(too_long)), budget.empty_reservation()),
    };
    Ok(UploadedPhotos { photos: vec![photo], is_list: false, options: BodyOptions::default(), reservation })
}

#[cfg(test)]
mod tests;
