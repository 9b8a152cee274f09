//! The way from an encoded photo to a batch that never holds more than the network will see.

use super::picture::Picture;
use super::{ImageBatch, Limits, PhotoError, Preprocessing, Region, decode, resize};

/// A decoded photo on its way to the preprocessing that it was decoded for: as stored, not upright yet, and of a large
/// JPEG only the columns that the crop will show.
///
/// What comes out is equal, to the bit, to what [`Preprocessing::apply`] makes of the whole upright photo.
#[derive(Clone, Debug)]
pub struct Excerpt<'a> {
    preprocessing: &'a Preprocessing,
    picture: Picture,
}

impl<'a> Excerpt<'a> {
    /// Decodes what [`Photo::decode`](super::Photo::decode) does, and refuses what it refuses.
    ///
    /// # Panics
    /// As [`Preprocessing::apply`] does.
    pub fn decode(bytes: &[u8], limits: &Limits, preprocessing: &'a Preprocessing) -> Result<Self, PhotoError> {
        preprocessing.assert_valid();
        Ok(Excerpt { preprocessing, picture: decode::decode(bytes, limits, Some(preprocessing))? })
    }

    /// Upright, resized and cropped: a batch of one, `[1, crop, crop, 3]`.
    pub fn resize(&self) -> ImageBatch {
        self.preprocessing.batch(resize::resize_and_crop(&self.picture.stored(), self.preprocessing))
    }

    /// Where the crop lies in the upright photo.
    pub fn region(&self) -> Region {
        let Picture { size, orientation, .. } = self.picture;
        Region::new(resize::upright(size, orientation), self.preprocessing)
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use image::metadata::Orientation;
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress, compress_progressive};

    use super::*;
    use crate::preprocess::Photo;

    fn rgb(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x * 7 + y * 3, x * x / 5 + y, (x / 9 + y / 7) * 101].map(|value| value as u8))
        })
    }

    /// Wide and tall ones, whose columns are left out at both sides, and one of which none are; sides that fill no block
    /// among them.
    #[test]
    fn an_excerpt_ends_as_the_whole_photo_does() {
        let preprocessing = Preprocessing { resize: 32, crop: 24, ..Preprocessing::default() };
        let (limits, mut left_out) = (Limits::default(), 0);
        for (width, height) in [(640, 100), (611, 93), (300, 200), (100, 640), (93, 611), (40, 40)] {
            let image = rgb(width, height);
            let (columns, rows) = (width as usize, height as usize);
            for subsampling in
                [Subsampling::S444, Subsampling::S422, Subsampling::S420, Subsampling::S440, Subsampling::S411]
            {
                for encode in [compress, compress_progressive] {
                    let file = encode(&image, columns, rows, PixelFormat::Rgb, 90, subsampling).unwrap();
                    let excerpt = Excerpt::decode(&file, &limits, &preprocessing).unwrap();
                    let whole = preprocessing.apply(&Photo::decode(&file, &limits).unwrap());
                    assert!(excerpt.resize() == whole, "{width}x{height}, {subsampling:?}");
                    left_out += usize::from(excerpt.picture.columns.len() < columns);
                }
            }
        }
        assert_eq!(left_out, 5 * 5 * 2, "photos of which columns were left out");
    }

    #[test]
    fn the_region_is_one_of_the_upright_photo() {
        let picture = |orientation| {
            let picture = Picture::whole(RgbImage::new(400, 200), orientation);
            Excerpt { preprocessing: &Preprocessing::default(), picture }.region()
        };
        let as_stored = picture(Orientation::Rotate180);
        assert_eq!((as_stored.photo, as_stored.left, as_stored.top), ((400, 200), 112.5, 12.5));
        let turned = picture(Orientation::Rotate90);
        assert_eq!((turned.photo, turned.left, turned.top), ((200, 400), 12.5, 112.5));
    }
}
