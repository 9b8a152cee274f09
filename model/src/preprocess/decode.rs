//! From bytes to an upright RGB photo, within limits that are checked before memory is taken.

/// What a photo may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the encoded file.
    pub bytes: usize,
    /// Width times height.
    pub pixels: u64,
    /// Of all buffers of one decode, in bytes.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 20 << 20, pixels: 50_000_000, memory: 512 << 20 }
    }
}

/// Upright, opaque, u8 RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    pub(super) width: u32,
    pub(super) height: u32,
    /// u8 RGB `[height, width, 3]`
    pub(super) pixels: Vec<u8>,
}

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

impl Photo {
    /// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP; the format is what the bytes say.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, PhotoError> {
        let _ = (bytes, limits);
        todo!()
    }

    /// From u8 RGBA `[height, width, 4]` with straight alpha, upright already: a canvas, a camera, or a format that
    /// only a browser decodes. Alpha is laid over white.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<Self, PhotoError> {
        let _ = (width, height, rgba);
        todo!()
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }
}
