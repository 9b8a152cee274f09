//! A whole photo in less pixels.

use super::convolve::Pixels;
use super::resize::{both_passes, height_first, resized_size};
use super::{Interpolation, Photo, windows};

impl Photo {
    /// The photo with a short side of `short` pixels, antialiased: torchvision's `Resize` on Pillow. A photo whose short side
    /// is no longer than that stays as it is.
    ///
    /// # Panics
    /// If `short` is zero.
    pub fn shrunk(self, short: u32, interpolation: Interpolation) -> Photo {
        assert!(short > 0, "a photo of no pixels");
        let Photo { width, height, ref pixels } = self;
        if width.min(height) <= short {
            return self;
        }
        let resized = resized_size(width, height, short);
        // Neither side grows.
        let axis = |size, resized| windows::windows(size, resized, resized as u32, interpolation);
        let whole = Pixels { samples: pixels, width: width as usize };
        let rows_first = height_first((width, height), resized);
        let pixels = both_passes(whole, axis(width, resized.0), axis(height, resized.1), rows_first);
        Photo { width: resized.0 as u32, height: resized.1 as u32, pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Preprocessing;

    fn filled(width: u32, height: u32) -> Photo {
        let pixels = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
        Photo { width, height, pixels }
    }

    /// The middle is what preprocessing makes of it, whose values are Pillow's.
    #[test]
    fn a_photo_is_shrunk_as_preprocessing_does_it() {
        for (width, height, resized) in
            [(90, 60, (48, 32)), (61, 200, (32, 104)), (33, 33, (32, 32)), (300, 40, (240, 32))]
        {
            let photo = filled(width, height);
            let shrunk = photo.clone().shrunk(32, Interpolation::Bilinear);
            assert_eq!((shrunk.width, shrunk.height), resized);
            let once = Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() };
            assert!(once.apply(&photo) == once.apply(&shrunk), "{width}x{height}");
        }
    }

    #[test]
    fn a_small_photo_stays_as_it_is() {
        for (width, height) in [(32, 90), (20, 31)] {
            assert_eq!(filled(width, height).shrunk(32, Interpolation::Bilinear), filled(width, height));
        }
    }
}
