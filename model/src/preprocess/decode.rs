//! Decoding of encoded images. The format is detected from the bytes, never from a file name.

use std::panic::AssertUnwindSafe;

use image::ImageFormat;

use super::decoded_image::DecodedImage;
use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::parameters::Preprocessing;
use super::{image_crate, jpeg};

/// Reason in the error that replaces a decoder's panic. The fuzz target `image` and `tests/preprocess_reference.rs`
/// compare with this text, and fail if it occurs.
const DECODER_PANICKED: &str = "the decoder panicked";

/// Decodes the whole image, or, given `crop`, at least the columns that this preprocessing reads.
pub(super) fn decode(bytes: &[u8], limits: &Limits, crop: Option<&Preprocessing>) -> Result<DecodedImage, PhotoError> {
    let (format, name) = detect_format(bytes, limits)?;
    catch_panics(name, || match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, limits, crop),
        _ => image_crate::decode(bytes, format, name, limits),
    })
}

/// Detects the format from the first bytes; returns it with its name for error messages.
pub(super) fn detect_format(bytes: &[u8], limits: &Limits) -> Result<(ImageFormat, &'static str), PhotoError> {
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

/// Runs a decoder and turns its panics into errors.
pub(super) fn catch_panics<T>(
    format: &'static str,
    decode: impl FnOnce() -> Result<T, PhotoError>,
) -> Result<T, PhotoError> {
    // Inputs that are known to make a decoder panic are rejected before it runs. This is a second line of defence,
    // since the bytes are untrusted and the decoders are third-party code. It has no effect where panics abort (wasm).
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(decode));
    decoded.unwrap_or_else(|_| Err(undecodable(format, DECODER_PANICKED)))
}

#[cfg(test)]
mod tests;
