//! Photos in a multipart form: every part with a file name, and every part named `file`. Other parts are skipped.

use super::multipart_guard::{HeadersTooLong, MultipartGuard};
use super::photos::{BodyOptions, UploadLimits, UploadedPhotos, photo_too_large};
use crate::body;
use crate::error::ApiError;
use crate::memory::MemoryBudget;
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Request};
use futures_util::TryStreamExt;
use std::fmt;

/// Name of the form field that holds a photo, whether or not it has a file name.
pub const FIELD: &str = "file";

/// Maximum number of fields whose names an error lists.
const MAX_LISTED_FIELDS: usize = 10;

/// Maximum length of the name of a field that an error lists, in characters.
const MAX_LISTED_NAME: usize = 40;

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
    let (mut rejection, mut other_fields) = (None, OtherFields::default());
    while let Some(mut field) = form.next_field().await.map_err(form_error)? {
        guard.record_progress();
        // Browsers send an empty file name for a file input in which no file was chosen.
        let has_file_name = field.file_name().is_some_and(|name| !name.is_empty());
        if field.name() != Some(FIELD) && !has_file_name {
            other_fields.add(field.name());
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
        None if photos.is_empty() => Err(ApiError::nothing_to_classify(format!(
            "the form has no photo; send each photo as a part with a file name, such as `curl -F {FIELD}=@photo.jpg`; \
                 {other_fields}"
        ))),
        None => {
            let (is_list, options) = (photos.len() > 1, BodyOptions::default());
            Ok(UploadedPhotos { photos, is_list, options, reservation })
        }
    }
}

/// The fields of a form that are no photos, for an error message.
#[derive(Default)]
struct OtherFields {
    names: Vec<String>,
    count: usize,
}

impl OtherFields {
    fn add(&mut self, name: Option<&str>) {
        self.count += 1;
        if self.names.len() < MAX_LISTED_FIELDS {
            self.names.push(name.unwrap_or_default().chars().take(MAX_LISTED_NAME).collect());
        }
    }
}

impl fmt::Display for OtherFields {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("the form is empty");
        }
        let names = self.names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        write!(f, "received fields without a file name: {names}")?;
        match self.count - self.names.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
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
