//! Encoding of photos as JPEG and PNG, for packing data sets.

use image::ImageFormat;
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress_optimized};
use std::io::Cursor;

use super::Photo;

/// Maximum width and height of a JPEG, in pixels.
const MAX_JPEG_SIDE: u32 = 65_535;

/// Error of encoding a photo that is wider or higher than a JPEG can be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("photo has {width}x{height} pixels; the sides of a JPEG have at most {MAX_JPEG_SIDE}")]
pub struct JpegTooLarge {
    width: u32,
    height: u32,
}

impl Photo {
    /// Encodes the photo as a JPEG with 4:2:0 chroma subsampling; `quality` is libjpeg's, 1 to 100.
    ///
    /// # Errors
    /// Returns an error if a side is longer than a JPEG allows.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, JpegTooLarge> {
        let Photo { width, height, ref pixels } = *self;
        if width.max(height) > MAX_JPEG_SIDE {
            return Err(JpegTooLarge { width, height });
        }
        let (columns, rows) = (width as usize, height as usize);
        let encoded = compress_optimized(pixels, columns, rows, PixelFormat::Rgb, quality, Subsampling::S420);
        Ok(encoded.expect("the number of pixels matches width and height"))
    }

    /// Encodes the photo as a PNG.
    pub fn to_png(&self) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let (width, height) = (self.width, self.height);
        image::write_buffer_with_format(
            &mut file,
            &self.pixels,
            width,
            height,
            image::ColorType::Rgb8,
            ImageFormat::Png,
        )
        .expect("the number of pixels matches width and height");
        file.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Limits;

    fn photo(width: u32, height: u32) -> Photo {
        let value = |x: u32, y: u32| [x * 200 / width, y * 200 / height, (x + y) * 100 / (width + height)];
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| value(x, y))).map(|value| value as u8);
        Photo { width, height, pixels: pixels.collect() }
    }

    #[test]
    fn encoded_photos_decode_to_the_same_pixels() {
        for (width, height) in [(1, 1), (17, 9), (64, 48)] {
            let photo = photo(width, height);
            assert_eq!(Photo::decode(&photo.to_png(), &Limits::default()).unwrap(), photo);
            let decoded = Photo::decode(&photo.to_jpeg(95).unwrap(), &Limits::default()).unwrap();
            assert_eq!((decoded.width, decoded.height), (width, height));
            let differences = decoded.pixels.iter().zip(&photo.pixels).map(|(a, b)| a.abs_diff(*b));
            assert!(differences.max() < Some(16), "{width}x{height}");
        }
        let (low, high) = (photo(64, 48).to_jpeg(30).unwrap(), photo(64, 48).to_jpeg(90).unwrap());
        assert!(low.len() < high.len());
    }

    #[test]
    fn rejects_sides_longer_than_a_jpeg_allows() {
        let long = Photo { width: 70_000, height: 1, pixels: vec![0; 210_000] };
        assert_eq!(long.to_jpeg(90), Err(JpegTooLarge { width: 70_000, height: 1 }));
    }
}
