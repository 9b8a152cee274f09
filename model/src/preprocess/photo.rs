//! A decoded photo from any source.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::decoded_image::DecodedImage;
use super::error::PhotoError;
use super::limits::Limits;
use super::resize::ImageView;
use super::{decode, flatten_alpha};

/// An upright, opaque u8 RGB image of at least one pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Pixels, u8 RGB `[height, width, 3]`.
    pub(super) pixels: Vec<u8>,
}

impl Photo {
    /// Decodes JPEG, PNG, WebP, GIF (first frame) or BMP; the format is detected from the bytes.
    ///
    /// The result equals that of Pillow's `convert("RGB")`, for JPEG bit for bit, except for three deliberate
    /// deviations: EXIF orientation is applied, alpha is composited over white, 16-bit samples are scaled to 8 bits
    /// instead of clipped or truncated.
    ///
    /// # Errors
    /// Returns an error if the photo exceeds `limits`, has another format, or cannot be decoded.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, PhotoError> {
        Ok(Photo::upright(decode::decode(bytes, limits, None)?))
    }

    /// Creates a photo from u8 RGB `[height, width, 3]`, already upright.
    ///
    /// # Errors
    /// Returns an error if the number of bytes does not match the size, or if there are no pixels.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Result<Self, PhotoError> {
        check_byte_count(width, height, "RGB", 3, &pixels)?;
        Ok(Photo { width, height, pixels })
    }

    /// Converts u8 RGBA `[height, width, 4]` with straight alpha, already upright: a canvas, a camera frame, or an
    /// image in a format that only the browser decodes. Alpha is composited over white.
    ///
    /// # Errors
    /// Returns an error if the number of bytes does not match the size, or if there are no pixels.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<Self, PhotoError> {
        check_byte_count(width, height, "RGBA", 4, rgba)?;
        Ok(Photo { width, height, pixels: flatten_alpha::from_rgba8(rgba) })
    }

    /// Returns the width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the pixels, u8 RGB `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(super) fn view(&self) -> ImageView<'_> {
        let Photo { width, height, ref pixels } = *self;
        ImageView { size: (width, height), orientation: Orientation::NoTransforms, columns: 0..width as usize, pixels }
    }

    /// Turns an image upright. All of its columns must have been decoded.
    pub(super) fn upright(DecodedImage { size, orientation, pixels, .. }: DecodedImage) -> Self {
        let rgb = RgbImage::from_raw(size.0, size.1, pixels).expect("all columns were decoded");
        let mut image = DynamicImage::ImageRgb8(rgb);
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        Photo { width: rgb.width(), height: rgb.height(), pixels: rgb.into_raw() }
    }
}

/// Checks that an image has at least one pixel, and `channels` bytes per pixel.
fn check_byte_count(
    width: u32,
    height: u32,
    format: &'static str,
    channels: u64,
    pixels: &[u8],
) -> Result<(), PhotoError> {
    let expected = (u64::from(width) * u64::from(height)).checked_mul(channels);
    if pixels.is_empty() || expected != Some(pixels.len() as u64) {
        return Err(PhotoError::PixelCount { bytes: pixels.len(), format, width, height });
    }
    Ok(())
}
