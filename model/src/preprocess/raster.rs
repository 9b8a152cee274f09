//! PNG, WebP, GIF and BMP, with the decoders of `image`.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::picture::Picture;
use super::{opaque, webp};

/// Of an animation, the first frame.
pub(super) fn decode(
    bytes: &[u8],
    format: ImageFormat,
    name: &'static str,
    limits: &Limits,
) -> Result<Picture, PhotoError> {
    let error = |error| photo_error(error, name, limits);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allocations = image::Limits::no_limits();
    allocations.max_alloc = Some(limits.memory);
    reader.limits(allocations);
    let mut decoder = reader.into_decoder().map_err(error)?;
    let stored = u64::from(decoder.color_type().bytes_per_pixel());
    limits.check(decoder.dimensions(), stored + beside_output(format, bytes), name)?;
    if format == ImageFormat::Gif {
        // Its first frame may be larger than the screen that shows a part of it.
        let (width, height) = decoder.dimensions();
        let screen = u64::from(width) * u64::from(height) * stored;
        let mut frame = image::Limits::no_limits();
        frame.max_alloc = Some((limits.memory - screen).min(limits.pixels.saturating_mul(stored)));
        decoder.set_limits(frame).map_err(error)?;
    }
    if format == ImageFormat::WebP && !webp::frame_fits(bytes, decoder.dimensions()) {
        return Err(undecodable(name, "its frame has another size than the file announces"));
    }

    let orientation = match format {
        ImageFormat::WebP => orientation(webp::exif(bytes)),
        _ => orientation(decoder.exif_metadata().ok().flatten().as_deref()),
    };
    let image = DynamicImage::from_decoder(decoder).map_err(error)?;
    Ok(Picture::whole(opaque::from_image(image), orientation))
}

/// Metadata that cannot be read is no reason to refuse a picture that can.
fn orientation(exif: Option<&[u8]>) -> Orientation {
    let exif = exif.unwrap_or_default();
    // JPEG's prefix does not belong in other formats, but writers of WebP put it there.
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(tiff).unwrap_or(Orientation::NoTransforms)
}

/// Bytes a pixel of what lives beside a decoder's output: the opaque RGB made of it, or the decoder's own frame.
fn beside_output(format: ImageFormat, bytes: &[u8]) -> u64 {
    match format {
        ImageFormat::WebP => webp::beside_output(bytes),
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
