//! Small square pictures of photos.

use crate::data::SampleLocation;
use crate::photos::LIMITS;
use model::preprocess::{CroppedDecode, ImageBatch, Photo, Preprocessing};

/// Quality of the JPEG files, as that of libjpeg.
const QUALITY: u8 = 80;

/// Returns the square centre of a photo as an image of `side` by `side` pixels, or `None` if the photo cannot be decoded.
pub fn square_centre(location: &SampleLocation, side: u32) -> Option<ImageBatch> {
    let preprocessing = Preprocessing { resize: side, crop: side, ..Preprocessing::default() };
    Some(CroppedDecode::decode(&location.read().ok()?, &LIMITS, &preprocessing).ok()?.resize())
}

/// Encodes a single image.
///
/// # Panics
/// Panics if there are several images, or if the image is too large for a JPEG file.
pub fn image_to_jpeg(image: &ImageBatch) -> Vec<u8> {
    let [_, height, width] = image.shape();
    let photo = Photo::new(width as u32, height as u32, image.pixels().to_vec());
    photo_to_jpeg(&photo.expect("there is one image with three bytes per pixel"))
}

/// Encodes a small photo.
///
/// # Panics
/// Panics if the photo is too large for a JPEG file.
pub fn photo_to_jpeg(photo: &Photo) -> Vec<u8> {
    photo.to_jpeg(QUALITY).expect("a thumbnail is small enough")
}
