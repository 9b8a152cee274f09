//! Reduction of a whole photo to fewer pixels.

use super::convolve::Pixels;
use super::resize::{both_passes, height_first, resized_size};
use super::{Interpolation, Photo, filter_taps};

impl Photo {
    /// Resizes the photo to a short side of `short` pixels, antialiased, like torchvision's `Resize` on Pillow. A photo
    /// whose short side is no longer than that is returned unchanged.
    ///
    /// # Panics
    /// Panics if `short` is zero.
    pub fn downscaled(self, short: u32, interpolation: Interpolation) -> Photo {
        assert!(short > 0, "the short side must have at least one pixel");
        let Photo { width, height, ref pixels } = self;
        if width.min(height) <= short {
            return self;
        }
        let resized = resized_size(width, height, short);
        // Neither side becomes longer, so both fit into 32 bits.
        let taps = |size, resized| filter_taps::centre_crop_taps(size, resized, resized as u32, interpolation);
        let whole = Pixels { samples: pixels, width: width as usize };
        let rows_first = height_first((width, height), resized);
        let pixels = both_passes(whole, taps(width, resized.0), taps(height, resized.1), rows_first);
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

    /// The centre must equal the result of preprocessing, which is tested against Pillow.
    #[test]
    fn downscaling_equals_the_resize_of_preprocessing() {
        for (width, height, resized) in
            [(90, 60, (48, 32)), (61, 200, (32, 104)), (33, 33, (32, 32)), (300, 40, (240, 32))]
        {
            let photo = filled(width, height);
            let downscaled = photo.clone().downscaled(32, Interpolation::Bilinear);
            assert_eq!((downscaled.width, downscaled.height), resized);
            let preprocessing = Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() };
            assert!(preprocessing.apply(&photo) == preprocessing.apply(&downscaled), "{width}x{height}");
        }
    }

    #[test]
    fn small_photos_stay_unchanged() {
        for (width, height) in [(32, 90), (20, 31)] {
            assert_eq!(filled(width, height).downscaled(32, Interpolation::Bilinear), filled(width, height));
        }
    }
}
