//! A photo whose size is known before it is decoded, so that a random crop in training can be chosen first and only
//! that part needs to be decoded.

use image::ImageFormat;
use image::metadata::Orientation;

use super::jpeg::JpegImage;
use super::resize::{AxisMapping, upright_size};
use super::{Limits, Photo, PhotoError, Rectangle, decode};

/// A photo whose size is known. A JPEG is decoded only by [`LazyImage::decode_part`]; other formats are decoded on
/// opening.
pub struct LazyImage<'a>(Contents<'a>);

enum Contents<'a> {
    Jpeg(Box<JpegImage<'a>>),
    Decoded(Photo),
}

impl<'a> LazyImage<'a> {
    /// Reads the header, and decodes the photo unless it is a JPEG.
    ///
    /// # Errors
    /// Returns an error for every photo that [`Photo::decode`] rejects because of its size or format.
    pub fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, PhotoError> {
        Ok(LazyImage(match decode::detect_format(bytes, limits)? {
            (ImageFormat::Jpeg, name) => {
                Contents::Jpeg(Box::new(decode::catch_panics(name, || JpegImage::open(bytes, limits))?))
            }
            _ => Contents::Decoded(Photo::decode(bytes, limits)?),
        }))
    }

    /// Returns the width and height of the upright photo, in pixels.
    pub fn size(&self) -> (u32, u32) {
        match &self.0 {
            Contents::Jpeg(jpeg) => upright_size(jpeg.size, jpeg.orientation),
            Contents::Decoded(photo) => (photo.width, photo.height),
        }
    }

    /// Decodes at least `part` of the upright photo. Returns what was decoded, and the position of `part` in it; its
    /// pixels are bit for bit those of [`Photo::decode`].
    ///
    /// # Errors
    /// Returns an error if the JPEG cannot be decoded within the limits.
    ///
    /// # Panics
    /// Panics if `part` is empty or reaches beyond the photo.
    pub fn decode_part(self, part: Rectangle) -> Result<(Photo, Rectangle), PhotoError> {
        part.assert_within(self.size());
        let jpeg = match self.0 {
            Contents::Decoded(photo) => return Ok((photo, part)),
            Contents::Jpeg(jpeg) => *jpeg,
        };
        let orientation = jpeg.orientation;
        let part = to_stored(part, jpeg.size, orientation);
        let (image, part) = decode::catch_panics("JPEG", || jpeg.decode_part(part))?;
        let size = image.size;
        Ok((Photo::upright(image), to_upright(part, size, orientation)))
    }
}

/// Converts a part of the upright photo to the coordinates of the stored image, which has this size and orientation.
fn to_stored(part: Rectangle, size: (u32, u32), orientation: Orientation) -> Rectangle {
    let axes = AxisMapping::of(orientation);
    mirrored(if axes.transposed { transposed(part) } else { part }, size, axes)
}

/// Converts a part of the stored image to the coordinates of the upright photo, the inverse of [`to_stored`].
fn to_upright(part: Rectangle, size: (u32, u32), orientation: Orientation) -> Rectangle {
    let axes = AxisMapping::of(orientation);
    let part = mirrored(part, size, axes);
    if axes.transposed { transposed(part) } else { part }
}

fn transposed(Rectangle { left, top, width, height }: Rectangle) -> Rectangle {
    Rectangle { left: top, top: left, width: height, height: width }
}

/// Mirrors a part of an image of this size along the axes that are stored in reverse.
fn mirrored(part: Rectangle, size: (u32, u32), axes: AxisMapping) -> Rectangle {
    let Rectangle { left, top, width, height } = part;
    let left = if axes.mirrored_columns { size.0 - left - width } else { left };
    let top = if axes.mirrored_rows { size.1 - top - height } else { top };
    Rectangle { left, top, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

    /// Colours change from pixel to pixel, so that wrong interpolation changes the result.
    fn jpeg(width: usize, height: usize, orientation: u8, subsampling: Subsampling, progressive: bool) -> Vec<u8> {
        let value = |x: usize, y: usize| [x * 7 + y * 3, x * x / 5 + y, (x / 9 + y / 7) * 101];
        let pixels: Vec<u8> =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| value(x, y))).map(|value| value as u8).collect();
        // A TIFF header with a single tag, 0x0112 (orientation).
        let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
        let encoder = Encoder::new(&pixels, width, height, PixelFormat::Rgb).quality(90).subsampling(subsampling);
        encoder.progressive(progressive).exif_data(&exif).encode().unwrap()
    }

    fn pixels_of(photo: &Photo, part: Rectangle) -> Vec<u8> {
        let row = |y: u32| &photo.pixels[((y * photo.width + part.left) * 3) as usize..][..part.width as usize * 3];
        (part.top..part.top + part.height).flat_map(row).copied().collect()
    }

    #[test]
    fn part_equals_the_same_part_of_the_whole_photo() {
        use Subsampling::{S411, S420, S422, S440, S444};
        let mut partly_decoded = 0;
        for (subsampling, orientation) in [S444, S422, S420, S440, S411].into_iter().zip([1, 3, 6, 8, 5]) {
            for (orientation, progressive) in [(1, false), (orientation, true)] {
                let file = jpeg(211, 149, orientation, subsampling, progressive);
                let whole = Photo::decode(&file, &Limits::default()).unwrap();
                let (right, bottom) = (whole.width, whole.height);
                for [left, top, width, height] in [
                    [0, 0, right, bottom],
                    [0, 0, 30, 20],
                    [right - 31, bottom - 17, 31, 17],
                    [70, 50, 64, 48],
                    [67, 33, 1, 1],
                    [100, 97, 40, 15],
                ] {
                    let part = Rectangle { left, top, width, height };
                    let image = LazyImage::open(&file, &Limits::default()).unwrap();
                    assert_eq!(image.size(), (right, bottom));
                    let (photo, within) = image.decode_part(part).unwrap();
                    assert_eq!((within.width, within.height), (width, height));
                    let same = pixels_of(&photo, within) == pixels_of(&whole, part);
                    assert!(same, "{part:?}, {subsampling:?}, orientation {orientation}, progressive {progressive}");
                    partly_decoded += usize::from(photo.pixels.len() * 2 < whole.pixels.len());
                }
            }
        }
        assert!(partly_decoded >= 30, "less than half was decoded in {partly_decoded} cases only");
    }

    #[test]
    fn other_formats_are_decoded_whole() {
        let photo = Photo { width: 9, height: 5, pixels: (0..9 * 5 * 3).collect() };
        let png = photo.to_png();
        let image = LazyImage::open(&png, &Limits::default()).unwrap();
        let part = Rectangle { left: 3, top: 1, width: 2, height: 2 };
        assert_eq!((image.size(), image.decode_part(part).unwrap()), ((9, 5), (photo, part)));
        assert!(LazyImage::open(b"no photo", &Limits::default()).is_err());
    }
}
