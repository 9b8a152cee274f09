//! The ways in which a photo can be refused.

/// Why there is no photo.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    #[error("the file is empty")]
    Empty,
    #[error("{bytes} bytes; at most {limit} are accepted")]
    TooManyBytes { bytes: usize, limit: usize },
    #[error("{width}x{height} pixels; at most {limit} pixels are accepted")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("decoding would take more than the {limit} bytes of memory that are allowed")]
    TooMuchMemory { limit: u64 },
    #[error("not a photo in a supported format (JPEG, PNG, WebP, GIF, BMP)")]
    UnsupportedFormat,
    #[error("the {format} photo cannot be decoded: {reason}")]
    Undecodable { format: &'static str, reason: String },
    #[error("{bytes} bytes are no RGBA image of {width}x{height}")]
    PixelCount { bytes: usize, width: u32, height: u32 },
}

impl PhotoError {
    /// The code of a [`Failure`](crate::prediction::Failure), the same on every interface.
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
