//! From bytes to a picture: the format is what the bytes say.

use image::ImageFormat;

use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::picture::Picture;
use super::{Preprocessing, jpeg, raster};

/// The whole picture, or at least those of its columns that `excerpt` looks at.
pub(super) fn decode(bytes: &[u8], limits: &Limits, excerpt: Option<&Preprocessing>) -> Result<Picture, PhotoError> {
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
        ImageFormat::Jpeg => jpeg::decode(bytes, limits, excerpt),
        _ => raster::decode(bytes, format, name, limits),
    });
    decoded.unwrap_or_else(|_| Err(undecodable(name, "its decoder failed")))
}

#[cfg(test)]
mod tests;
