//! The photos of one request, and the limits on them.

use crate::body::TooLong;
use crate::error::ApiError;
use crate::memory::Reservation;
use bytes::Bytes;
use model::preprocess::PhotoError;

/// Photos as they were sent, in their order; at least one.
#[derive(Debug)]
pub struct UploadedPhotos {
    /// Encoded photos, or why one was rejected.
    pub photos: Vec<Result<Bytes, ApiError>>,
    /// Whether the response is a list: there are several photos, or the client sent a list.
    pub is_list: bool,
    /// Options in the body.
    pub options: BodyOptions,
    /// Memory reserved for the photos.
    pub reservation: Reservation,
}

/// Options that a JSON document may contain in addition to photos, in place of query parameters. They are not
/// validated.
#[derive(Debug, Default)]
pub struct BodyOptions {
    pub top_k: Option<String>,
    pub model: Option<String>,
}

/// Limits on the encoded photos of one request.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Maximum size in bytes: of one photo, and of everything that is kept of a request.
    pub bytes: usize,
    /// Maximum number of photos.
    pub count: usize,
}

impl UploadLimits {
    /// Checks the number of photos.
    ///
    /// # Errors
    /// Returns 413 if there are too many.
    pub fn check_count(self, photos: usize) -> Result<(), ApiError> {
        if photos > self.count {
            return Err(ApiError::too_large(format!("at most {} photos are accepted per request", self.count)));
        }
        Ok(())
    }
}

/// Returns the error for a photo with too many bytes.
pub fn photo_too_large(TooLong { bytes, limit }: TooLong) -> ApiError {
    PhotoError::TooManyBytes { bytes, limit }.into()
}
