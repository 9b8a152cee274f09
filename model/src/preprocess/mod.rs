//! Preprocessing: from encoded bytes or pixels to the network's input, by decoding, turning upright, resizing and
//! cropping.
//!
//! The result equals that of torchvision's `Resize(antialias)` and `CenterCrop` applied to Pillow's decoding, except
//! for three deliberate deviations: EXIF orientation is applied, alpha is composited over white, 16-bit samples are
//! scaled instead of clipped. This module does not normalise: its output is an [`ImageBatch`], bytes with the mean and
//! standard deviation for normalising them.

mod batch;
mod convolve;
mod cropped_decode;
mod decode;
mod decoded_image;
mod downscale;
mod encode;
mod error;
mod filter_taps;
mod flatten_alpha;
mod image_crate;
mod jpeg;
mod lazy_image;
mod limits;
mod orientation;
mod parameters;
mod photo;
mod png_chunks;
mod rectangle;
mod region;
mod resize;
mod resized_crop;
mod webp;

pub use batch::{BatchError, ImageBatch};
pub use cropped_decode::CroppedDecode;
pub use encode::JpegTooLarge;
pub use error::PhotoError;
pub use lazy_image::LazyImage;
pub use limits::Limits;
pub use parameters::{Interpolation, Preprocessing, PreprocessingError};
pub use photo::Photo;
pub use rectangle::Rectangle;
pub use region::Region;

impl Preprocessing {
    /// Resizes and crops a photo, and returns a batch of one: `[1, crop, crop, 3]`. For an encoded photo,
    /// [`CroppedDecode`] computes the same in less time and memory.
    ///
    /// ```
    /// use model::preprocess::{CroppedDecode, Limits, Photo, Preprocessing};
    ///
    /// let photo = Photo::from_rgba(4, 3, &[255; 4 * 3 * 4])?;
    /// let preprocessing = Preprocessing { resize: 256, crop: 224, ..Preprocessing::default() };
    /// let batch = preprocessing.apply(&photo);
    /// assert_eq!(batch.shape(), [1, 224, 224]);
    ///
    /// let (file, limits) = (photo.to_png(), Limits::default());
    /// assert_eq!(CroppedDecode::decode(&file, &limits, &preprocessing)?.resize(), batch);
    /// # Ok::<(), model::preprocess::PhotoError>(())
    /// ```
    ///
    /// # Panics
    /// Panics if the parameters do not pass [`Preprocessing::validate`], which is possible if they were set in code.
    pub fn apply(&self, photo: &Photo) -> ImageBatch {
        self.assert_valid();
        self.batch(resize::resize_and_crop(&photo.view(), self))
    }

    /// Creates a batch of one from u8 RGB `[crop, crop, 3]`.
    fn batch(&self, pixels: Vec<u8>) -> ImageBatch {
        let side = self.crop as usize;
        ImageBatch::new(pixels, [1, side, side], self.mean, self.std).expect("the number of bytes matches the crop")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_returns_a_batch_of_one() {
        let photo = Photo { width: 300, height: 200, pixels: vec![9; 300 * 200 * 3] };
        let batch = Preprocessing::default().apply(&photo);
        assert_eq!((batch.shape(), batch.mean()), ([1, 224, 224], [0.485, 0.456, 0.406]));
        assert!(batch.pixels().iter().all(|&value| value == 9));
    }
}
