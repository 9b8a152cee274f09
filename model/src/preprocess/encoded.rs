//! A photo of which a part is chosen before it is decoded: what training looks at.

use image::ImageFormat;
use image::metadata::Orientation;

use super::jpeg;
use super::resize::{as_stored, upright};
use super::{Limits, Photo, PhotoError, Rectangle, decode};

/// A photo whose size is known. A JPEG is not decoded yet, anything else is.
pub struct Encoded<'a>(Kind<'a>);

enum Kind<'a> {
    Jpeg(Box<jpeg::Encoded<'a>>),
    Decoded(Photo),
}

impl<'a> Encoded<'a> {
    /// Refuses what [`Photo::decode`] refuses for its size or format.
    pub fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, PhotoError> {
        Ok(Encoded(match decode::format(bytes, limits)? {
            (ImageFormat::Jpeg, name) => {
                Kind::Jpeg(Box::new(decode::guarded(name, || jpeg::Encoded::open(bytes, limits))?))
            }
            _ => Kind::Decoded(Photo::decode(bytes, limits)?),
        }))
    }

    /// Width and height, upright.
    pub fn size(&self) -> (u32, u32) {
        match &self.0 {
            Kind::Jpeg(jpeg) => upright(jpeg.size, jpeg.orientation),
            Kind::Decoded(photo) => (photo.width, photo.height),
        }
    }

    /// At least a part of the upright photo, and where in what is returned that part lies. It shows what it shows in
    /// [`Photo::decode`], to the bit.
    ///
    /// # Panics
    /// If the part has no pixels or goes beyond the photo.
    pub fn decode_part(self, part: Rectangle) -> Result<(Photo, Rectangle), PhotoError> {
        part.assert_within(self.size());
        let jpeg = match self.0 {
            Kind::Decoded(photo) => return Ok((photo, part)),
            Kind::Jpeg(jpeg) => *jpeg,
        };
        let orientation = jpeg.orientation;
        let part = to_stored(part, jpeg.size, orientation);
        let (picture, part) = decode::guarded("JPEG", || jpeg.decode_part(part))?;
        let size = picture.size;
        Ok((Photo::upright(picture), to_upright(part, size, orientation)))
    }
}

/// A part of the upright photo, where it lies in one stored with this size and orientation.
fn to_stored(part: Rectangle, size: (u32, u32), orientation: Orientation) -> Rectangle {
    let (transposed, ..) = as_stored(orientation);
    mirrored(if transposed { swapped(part) } else { part }, size, orientation)
}

/// The way back.
fn to_upright(part: Rectangle, size: (u32, u32), orientation: Orientation) -> Rectangle {
    let (transposed, ..) = as_stored(orientation);
    let part = mirrored(part, size, orientation);
    if transposed { swapped(part) } else { part }
}

fn swapped(Rectangle { left, top, width, height }: Rectangle) -> Rectangle {
    Rectangle { left: top, top: left, width: height, height: width }
}

/// Along the axes that are stored the other way round.
fn mirrored(part: Rectangle, size: (u32, u32), orientation: Orientation) -> Rectangle {
    let (_, columns, rows) = as_stored(orientation);
    let Rectangle { left, top, width, height } = part;
    let left = if columns { size.0 - left - width } else { left };
    let top = if rows { size.1 - top - height } else { top };
    Rectangle { left, top, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

    /// Colours that change from pixel to pixel, so that whatever is interpolated shows.
    fn jpeg(width: usize, height: usize, orientation: u8, subsampling: Subsampling, progressive: bool) -> Vec<u8> {
        let value = |x: usize, y: usize| [x * 7 + y * 3, x * x / 5 + y, (x / 9 + y / 7) * 101];
        let pixels: Vec<u8> =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| value(x, y))).map(|value| value as u8).collect();
        // A TIFF with the one tag 0x0112.
        let exif = [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
        let encoder = Encoder::new(&pixels, width, height, PixelFormat::Rgb).quality(90).subsampling(subsampling);
        encoder.progressive(progressive).exif_data(&exif).encode().unwrap()
    }

    /// What lies in the part.
    fn shown(photo: &Photo, part: Rectangle) -> Vec<u8> {
        let row = |y: u32| &photo.pixels[((y * photo.width + part.left) * 3) as usize..][..part.width as usize * 3];
        (part.top..part.top + part.height).flat_map(row).copied().collect()
    }

    #[test]
    fn a_part_shows_what_it_shows_in_the_whole() {
        use Subsampling::{S411, S420, S422, S440, S444};
        let mut less = 0;
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
                    let encoded = Encoded::open(&file, &Limits::default()).unwrap();
                    assert_eq!(encoded.size(), (right, bottom));
                    let (photo, within) = encoded.decode_part(part).unwrap();
                    assert_eq!((within.width, within.height), (width, height));
                    let same = shown(&photo, within) == shown(&whole, part);
                    assert!(same, "{part:?}, {subsampling:?}, orientation {orientation}, progressive {progressive}");
                    less += usize::from(photo.pixels.len() * 2 < whole.pixels.len());
                }
            }
        }
        assert!(less >= 30, "{less} decoded less than half");
    }

    #[test]
    fn other_formats_are_decoded_as_a_whole() {
        let photo = Photo { width: 9, height: 5, pixels: (0..9 * 5 * 3).collect() };
        let png = photo.to_png();
        let encoded = Encoded::open(&png, &Limits::default()).unwrap();
        let part = Rectangle { left: 3, top: 1, width: 2, height: 2 };
        assert_eq!((encoded.size(), encoded.decode_part(part).unwrap()), ((9, 5), (photo, part)));
        assert!(Encoded::open(b"no photo", &Limits::default()).is_err());
    }
}
