//! Photos in a multipart form: the field `file`, once or repeated. Other fields are skipped.

use super::multipart_guard::{HeadersTooLong, MultipartGuard};
use super::photos::{UploadLimits, UploadedPhotos, photo_too_large};
use crate::body;
use crate::error::ApiError;
use crate::memory::MemoryBudget;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use futures_util::TryStreamExt;

/// Name of the form field that holds a photo.
pub const FIELD: &str = "file";

/// Reads the photos of a form. A photo with too many bytes is rejected by itself; the others are kept.
///
/// # Errors
/// Returns an error if the form is malformed, has no photos, or exceeds `limits` or the memory budget. A form that
/// exceeds `limits` is still read to its end.
pub async fn read_photos(
    request: Request,
    limits: UploadLimits,
    budget: &MemoryBudget,
) -> Result<UploadedPhotos, ApiError> {
    let (guard, request) = MultipartGuard::wrap(request);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let form_error = |error| form_error(&error, limits);
    let (mut photos, mut bytes, mut reservation) = (Vec::new(), 0, budget.empty_reservation());
    let mut rejection = None;
    while let Some(mut field) = form.next_field().await.map_err(form_error)? {
        guard.record_progress();
        if field.name() != Some(FIELD) {
            while field.chunk().await.map_err(form_error)?.is_some() {
                guard.record_progress();
            }
            continue;
        }
        let chunks = field.inspect_ok(|_| guard.record_progress());
        photos.push(match body::read(chunks, 0, limits.bytes, budget, form_error).await? {
            Ok(photo) => {
                bytes += photo.bytes.len();
                reservation.merge(photo.reservation);
                Ok(photo.bytes)
            }
            Err(too_long) => Err(photo_too_large(too_long)),
        });
        if let Err(error) = limits.check_count(photos.len()) {
            rejection = Some(error);
        } else if bytes > limits.bytes {
            rejection = Some(body::too_large(limits.bytes));
        }
        if rejection.is_some() {
            (photos, bytes, reservation) = (Vec::new(), 0, budget.empty_reservation());
        }
    }
    match rejection {
        Some(rejection) => Err(rejection),
        None if photos.is_empty() => {
            Err(ApiError::nothing_to_classify(format!("the form has no photo in a field named `{FIELD}`")))
        }
        None => Ok(UploadedPhotos { is_list: photos.len() > 1, photos, reservation }),
    }
}

/// Maps an error of the form's parser.
fn form_error(error: &MultipartError, limits: UploadLimits) -> ApiError {
    if let Some(error) = body::find_cause::<HeadersTooLong>(error) {
        return ApiError::malformed(error);
    }
    body::limit_error(error, limits.bytes)
        .unwrap_or_else(|| ApiError::malformed(format!("invalid multipart form: {}", error.body_text())))
}
