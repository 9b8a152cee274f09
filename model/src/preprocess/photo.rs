//! What a photo is, wherever it came from.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::error::PhotoError;
use super::limits::Limits;
use super::picture::Picture;
use super::resize::Stored;
use super::{decode, opaque};

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
        Ok(Photo::upright(decode::decode(bytes, limits, None)?))
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
    pub(super) fn upright(Picture { size, orientation, pixels, .. }: Picture) -> Self {
        let rgb = RgbImage::from_raw(size.0, size.1, pixels).expect("a whole picture has all its pixels");
        let mut image = DynamicImage::ImageRgb8(rgb);
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Photo { width: rgb.width(), height: rgb.height(), pixels: rgb.into_raw() }
    }
}
