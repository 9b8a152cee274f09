//! From bytes to a picture: the format is what the bytes say.

use std::panic::AssertUnwindSafe;

use image::ImageFormat;

use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::picture::Picture;
use super::{Preprocessing, jpeg, raster};

/// The whole picture, or at least those of its columns that `excerpt` looks at.
pub(super) fn decode(bytes: &[u8], limits: &Limits, excerpt: Option<&Preprocessing>) -> Result<Picture, PhotoError> {
    let (format, name) = format(bytes, limits)?;
    guarded(name, || match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, limits, excerpt),
        _ => raster::decode(bytes, format, name, limits),
    })
}

/// What the bytes say that they are, and how that is called.
pub(super) fn format(bytes: &[u8], limits: &Limits) -> Result<(ImageFormat, &'static str), PhotoError> {
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
    Ok((format, name))
}

/// What a decoder of this format yields.
pub(super) fn guarded<T>(
    format: &'static str,
    decode: impl FnOnce() -> Result<T, PhotoError>,
) -> Result<T, PhotoError> {
    // What is known to make a decoder panic is refused before it, but the bytes are a stranger's and the decoders are not ours.
    // Where panics abort (wasm), this changes nothing.
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(decode));
    decoded.unwrap_or_else(|_| Err(undecodable(format, "its decoder failed")))
}

#[cfg(test)]
mod tests;
