//! Reasons for rejecting a photo.

/// Reason for rejecting a photo.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has {bytes} bytes; at most {limit} are accepted")]
    TooManyBytes { bytes: usize, limit: usize },
    #[error("the photo has {width}x{height} pixels; at most {limit} pixels are accepted")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("decoding the photo would take more than {limit} bytes of memory")]
    TooMuchMemory { limit: u64 },
    #[error("not a photo in a supported format (JPEG, PNG, WebP, GIF, BMP)")]
    UnsupportedFormat,
    #[error("the {format} photo cannot be decoded: {reason}")]
    Undecodable { format: &'static str, reason: String },
    #[error("{bytes} bytes do not hold an {format} image of {width}x{height}")]
    PixelCount { bytes: usize, format: &'static str, width: u32, height: u32 },
}

impl PhotoError {
    /// Returns the code of the [`Failure`](crate::prediction::Failure), the same on every interface.
    pub fn code(&self) -> &'static str {
        match self {
            PhotoError::Empty => "nothing_to_classify",
            PhotoError::TooManyBytes { .. } | PhotoError::TooManyPixels { .. } | PhotoError::TooMuchMemory { .. } => {
                "too_large"
            }
            PhotoError::UnsupportedFormat => "unsupported_format",
            PhotoError::Undecodable { .. } => "undecodable",
            PhotoError::PixelCount { .. } => "malformed_request",
        }
    }
}

pub(super) fn undecodable(format: &'static str, reason: impl ToString) -> PhotoError {
    PhotoError::Undecodable { format, reason: reason.to_string() }
}
