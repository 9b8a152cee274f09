//! From bytes or pixels to an upright RGB photo.

use std::ops::Range;

use image::metadata::Orientation;
use image::{DynamicImage, ImageFormat, RgbImage};

use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::resize::Stored;
use super::{Preprocessing, jpeg, opaque, raster};

/// Upright, opaque, u8 RGB; at least one pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    pub(super) width: u32,
    pub(super) height: u32,
    /// u8 RGB `[height, width, 3]`
    pub(super) pixels: Vec<u8>,
}

impl Photo {
    /// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP; the format is what the bytes say.
    ///
    /// Equal to Pillow's `convert("RGB")`, JPEG to the bit, but for three deliberate deviations: EXIF orientation is
    /// honoured, alpha is laid over white, 16-bit samples are scaled to 8 bits instead of clipped or cut.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, PhotoError> {
        Ok(Photo::upright(decode(bytes, limits, None)?))
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

    pub(super) fn stored(&self) -> Stored<'_> {
        let Photo { width, height, ref pixels } = *self;
        Stored { size: (width, height), orientation: Orientation::NoTransforms, columns: 0..width as usize, pixels }
    }

    /// Of a whole picture.
    fn upright(Picture { size, orientation, pixels, .. }: Picture) -> Self {
        let rgb = RgbImage::from_raw(size.0, size.1, pixels).expect("a whole picture has all its pixels");
        let mut image = DynamicImage::ImageRgb8(rgb);
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Photo { width: rgb.width(), height: rgb.height(), pixels: rgb.into_raw() }
    }
}

/// An opaque picture as stored, and how to turn it upright.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// Width and height of the whole, at least one pixel.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
    /// The columns that were decoded.
    pub(super) columns: Range<usize>,
    /// u8 RGB `[height, columns, 3]`
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    pub(super) fn whole(rgb: RgbImage, orientation: Orientation) -> Self {
        let size = rgb.dimensions();
        Picture { size, orientation, columns: 0..size.0 as usize, pixels: rgb.into_raw() }
    }

    pub(super) fn stored(&self) -> Stored<'_> {
        let Picture { size, orientation, ref columns, ref pixels } = *self;
        Stored { size, orientation, columns: columns.clone(), pixels }
    }
}

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
