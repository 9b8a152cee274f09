//! Decoding of PNG, WebP, GIF and BMP by the crate `image`.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::decoded_image::DecodedImage;
use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::{flatten_alpha, orientation, png_chunks, webp};

/// Decodes an image, or the first frame of an animation.
pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    name: &'static str,
    limits: &Limits,
) -> Result<DecodedImage, PhotoError> {
    let error = |error| photo_error(error, name, limits);
    let complete = if format == ImageFormat::Png { png_chunks::with_end(bytes) } else { bytes.into() };
    let mut reader = ImageReader::with_format(Cursor::new(&*complete), format);
    let mut allocations = image::Limits::no_limits();
    allocations.max_alloc = Some(limits.memory);
    reader.limits(allocations);
    let mut decoder = reader.into_decoder().map_err(error)?;
    let output_bytes = u64::from(decoder.color_type().bytes_per_pixel());
    limits.check(decoder.dimensions(), output_bytes + extra_bytes_per_pixel(format, bytes), name)?;
    if format == ImageFormat::Gif {
        // The first frame may be larger than the screen, which shows a part of it.
        let (width, height) = decoder.dimensions();
        let screen = u64::from(width) * u64::from(height) * output_bytes;
        let mut frame = image::Limits::no_limits();
        frame.max_alloc = Some((limits.memory - screen).min(limits.pixels.saturating_mul(output_bytes)));
        decoder.set_limits(frame).map_err(error)?;
    }
    if format == ImageFormat::WebP && !webp::frame_fits(bytes, decoder.dimensions()) {
        return Err(undecodable(name, "the size of its frame differs from the size in its header"));
    }

    let exif = match format {
        ImageFormat::WebP => webp::exif(bytes),
        ImageFormat::Png => png_chunks::exif(bytes),
        _ => None,
    };
    let orientation = orientation::from_exif(exif.unwrap_or_default());
    let image = DynamicImage::from_decoder(decoder).map_err(error)?;
    Ok(DecodedImage::whole(flatten_alpha::from_image(image), orientation))
}

/// Returns the number of bytes per pixel of the buffers that exist in addition to the decoder's output: the RGB image
/// converted from it, or the decoder's own frame.
fn extra_bytes_per_pixel(format: ImageFormat, bytes: &[u8]) -> u64 {
    match format {
        ImageFormat::WebP => webp::extra_bytes_per_pixel(bytes),
        ImageFormat::Gif => 4,
        _ => 3,
    }
}

fn photo_error(error: ImageError, format: &'static str, limits: &Limits) -> PhotoError {
    match error {
        ImageError::Limits(_) => PhotoError::TooMuchMemory { limit: limits.memory },
        other => undecodable(format, other),
    }
}
