//! Decoding and preprocessing of an encoded photo. Of a large JPEG, only the columns that the crop needs are decoded,
//! and of every photo, only the pixels of the crop are resized.

use super::decoded_image::DecodedImage;
use super::{ImageBatch, Limits, PhotoError, Preprocessing, Region, decode, resize};

/// A photo decoded for a given preprocessing. It is in its stored orientation, not upright, and of a large JPEG only
/// the columns that the crop reads were decoded.
///
/// [`CroppedDecode::resize`] returns bit for bit what [`Preprocessing::apply`] returns for the whole upright photo.
#[derive(Clone, Debug)]
pub struct CroppedDecode<'a> {
    preprocessing: &'a Preprocessing,
    image: DecodedImage,
}

impl<'a> CroppedDecode<'a> {
    /// Decodes a photo in any format that [`Photo::decode`](super::Photo::decode) supports.
    ///
    /// # Errors
    /// Returns the errors of [`Photo::decode`](super::Photo::decode).
    ///
    /// # Panics
    /// Panics if `preprocessing` is invalid, as [`Preprocessing::apply`] does.
    pub fn decode(bytes: &[u8], limits: &Limits, preprocessing: &'a Preprocessing) -> Result<Self, PhotoError> {
        preprocessing.assert_valid();
        Ok(CroppedDecode { preprocessing, image: decode::decode(bytes, limits, Some(preprocessing))? })
    }

    /// Resizes and crops the photo and turns it upright. Returns a batch of one, `[1, crop, crop, 3]`.
    pub fn resize(&self) -> ImageBatch {
        self.preprocessing.batch(resize::resize_and_crop(&self.image.view(), self.preprocessing))
    }

    /// Returns the position of the crop in the upright photo.
    pub fn region(&self) -> Region {
        let DecodedImage { size, orientation, .. } = self.image;
        Region::of_crop(resize::upright_size(size, orientation), self.preprocessing)
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

    /// The sizes include photos of which columns are left out, a photo of which all columns are decoded, and sides that
    /// are not multiples of a block.
    #[test]
    fn cropped_decode_equals_preprocessing_the_whole_photo() {
        let preprocessing = Preprocessing { resize: 32, crop: 24, ..Preprocessing::default() };
        let (limits, mut cropped_count) = (Limits::default(), 0);
        for (width, height) in [(640, 100), (611, 93), (300, 200), (100, 640), (93, 611), (40, 40)] {
            let image = rgb(width, height);
            let (columns, rows) = (width as usize, height as usize);
            for subsampling in
                [Subsampling::S444, Subsampling::S422, Subsampling::S420, Subsampling::S440, Subsampling::S411]
            {
                for encode in [compress, compress_progressive] {
                    let file = encode(&image, columns, rows, PixelFormat::Rgb, 90, subsampling).unwrap();
                    let cropped = CroppedDecode::decode(&file, &limits, &preprocessing).unwrap();
                    let whole = preprocessing.apply(&Photo::decode(&file, &limits).unwrap());
                    assert!(cropped.resize() == whole, "{width}x{height}, {subsampling:?}");
                    cropped_count += usize::from(cropped.image.columns.len() < columns);
                }
            }
        }
        assert_eq!(cropped_count, 5 * 5 * 2, "photos of which columns were left out");
    }

    #[test]
    fn region_refers_to_the_upright_photo() {
        let region = |orientation| {
            let image = DecodedImage::whole(RgbImage::new(400, 200), orientation);
            CroppedDecode { preprocessing: &Preprocessing::default(), image }.region()
        };
        let upside_down = region(Orientation::Rotate180);
        assert_eq!((upside_down.photo, upside_down.left, upside_down.top), ((400, 200), 112.5, 12.5));
        let turned = region(Orientation::Rotate90);
        assert_eq!((turned.photo, turned.left, turned.top), ((200, 400), 12.5, 112.5));
    }
}
