//! From bytes to an upright RGB photo, within limits that are checked before memory is taken.

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};

use super::{jpeg, opaque, raster};

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

/// Upright, opaque, u8 RGB; at least one pixel.
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

impl Photo {
    /// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP; the format is what the bytes say.
    ///
    /// Equal to Pillow's `convert("RGB")`, JPEG to the bit, but for three deliberate deviations: EXIF orientation is
    /// honoured, alpha is laid over white, 16-bit samples are scaled to 8 bits instead of clipped or cut.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, PhotoError> {
        if bytes.is_empty() {
            return Err(PhotoError::Empty);
        }
        if bytes.len() > limits.bytes {
            return Err(PhotoError::TooManyBytes { bytes: bytes.len(), limit: limits.bytes });
        }
        let format = image::guess_format(bytes).map_err(|_| PhotoError::UnsupportedFormat)?;
        let name = match format {
            ImageFormat::Jpeg => "JPEG",
            ImageFormat::Png => "PNG",
            ImageFormat::WebP => "WebP",
            ImageFormat::Gif => "GIF",
            ImageFormat::Bmp => "BMP",
            _ => return Err(PhotoError::UnsupportedFormat),
        };
        // No input is known that makes a decoder panic, but the bytes are a stranger's and the decoders are not ours.
        // Where panics abort (wasm), this changes nothing.
        let decoded = std::panic::catch_unwind(|| match format {
            ImageFormat::Jpeg => jpeg::decode(bytes, limits),
            _ => raster::decode(bytes, format, name, limits),
        });
        let (rgb, orientation) = decoded.unwrap_or_else(|_| Err(undecodable(name, "its decoder failed")))?;
        Ok(Photo::upright(rgb, orientation))
    }

    /// From u8 RGBA `[height, width, 4]` with straight alpha, upright already: a canvas, a camera, or a format that
    /// only a browser decodes. Alpha is laid over white.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<Self, PhotoError> {
        let expected = (u64::from(width) * u64::from(height)).checked_mul(4);
        if rgba.is_empty() || expected != Some(rgba.len() as u64) {
            return Err(PhotoError::PixelCount { bytes: rgba.len(), width, height });
        }
        Ok(Photo { width, height, pixels: opaque::from_rgba8(rgba) })
    }

    pub fn width(&self) -> u32 {
        self.width
    }

    pub fn height(&self) -> u32 {
        self.height
    }

    /// u8 RGB `[height, width, 3]`
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    fn upright(rgb: RgbImage, orientation: Orientation) -> Self {
        let mut image = DynamicImage::ImageRgb8(rgb);
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Photo { width: rgb.width(), height: rgb.height(), pixels: rgb.into_raw() }
    }
}

/// Refuses what the header announces before anything is allocated for it. `bytes_per_pixel` counts the buffers that
/// live at once while decoding; turning a photo upright takes two copies of it.
pub(super) fn check_limits(
    (width, height): (u32, u32),
    bytes_per_pixel: u64,
    format: &'static str,
    limits: &Limits,
) -> Result<(), PhotoError> {
    const UPRIGHT: u64 = 2 * 3;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(undecodable(format, "it has no pixels"));
    }
    if pixels > limits.pixels {
        return Err(PhotoError::TooManyPixels { width, height, limit: limits.pixels });
    }
    if pixels.saturating_mul(bytes_per_pixel.max(UPRIGHT)) > limits.memory {
        return Err(PhotoError::TooMuchMemory { limit: limits.memory });
    }
    Ok(())
}

pub(super) fn undecodable(format: &'static str, reason: impl ToString) -> PhotoError {
    PhotoError::Undecodable { format, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
