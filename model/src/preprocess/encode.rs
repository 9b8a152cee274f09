//! From a photo back to bytes: what data sets are packed with.

use image::ImageFormat;
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress_optimized};
use std::io::Cursor;

use super::Photo;

/// The longest side that a JPEG can have, in pixels.
const LONGEST: u32 = 65_535;

/// Why there is no JPEG.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{width}x{height} pixels; the sides of a JPEG have at most {LONGEST}")]
pub struct TooLong {
    width: u32,
    height: u32,
}

impl Photo {
    /// A JPEG of a quality of 1 to 100, as libjpeg counts it, whose chroma has half the size (4:2:0).
    ///
    /// # Errors
    /// If a side is longer than a JPEG's can be.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>, TooLong> {
        let Photo { width, height, ref pixels } = *self;
        if width.max(height) > LONGEST {
            return Err(TooLong { width, height });
        }
        let (columns, rows) = (width as usize, height as usize);
        let encoded = compress_optimized(pixels, columns, rows, PixelFormat::Rgb, quality, Subsampling::S420);
        Ok(encoded.expect("the pixels are as many as the sides say"))
    }

    /// A PNG.
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
        .expect("the pixels are as many as the sides say");
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
    fn what_is_encoded_is_read_again() {
        for (width, height) in [(1, 1), (17, 9), (64, 48)] {
            let photo = photo(width, height);
            assert_eq!(Photo::decode(&photo.to_png(), &Limits::default()).unwrap(), photo);
            let again = Photo::decode(&photo.to_jpeg(95).unwrap(), &Limits::default()).unwrap();
            assert_eq!((again.width, again.height), (width, height));
            let differences = again.pixels.iter().zip(&photo.pixels).map(|(a, b)| a.abs_diff(*b));
            assert!(differences.max() < Some(16), "{width}x{height}");
        }
        let (low, high) = (photo(64, 48).to_jpeg(30).unwrap(), photo(64, 48).to_jpeg(90).unwrap());
        assert!(low.len() < high.len());
    }

    #[test]
    fn a_jpeg_has_no_longer_sides() {
        let long = Photo { width: 70_000, height: 1, pixels: vec![0; 210_000] };
        assert_eq!(long.to_jpeg(90), Err(TooLong { width: 70_000, height: 1 }));
    }
}
