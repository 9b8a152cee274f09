//! Resizing of a part of a photo, for the random resized crops of training.

use super::convolve::Pixels;
use super::filter_taps;
use super::parameters::Interpolation;
use super::photo::Photo;
use super::rectangle::Rectangle;
use super::resize::{both_passes, height_first};

impl Photo {
    /// Resizes a part of any aspect ratio to u8 RGB `[side, side, 3]`, mirrored from left to right if `flipped`. The
    /// result equals that of torchvision's `resized_crop` and `hflip` on Pillow, which do not read beyond the part's
    /// edges either.
    ///
    /// # Panics
    /// Panics if the part is empty or reaches beyond the photo, or if `side` is zero.
    pub fn resized_crop(&self, part: Rectangle, side: u32, interpolation: Interpolation, flipped: bool) -> Vec<u8> {
        part.assert_within((self.width, self.height));
        assert!(side > 0, "{part:?} cannot be resized to zero pixels");
        let Rectangle { left, top, width, height } = part;

        let taps_from = |start: u32, size: u32| {
            let mut taps = filter_taps::centre_crop_taps(size, side.into(), side, interpolation);
            taps.iter_mut().for_each(|pixel| pixel.first += start as usize);
            taps
        };
        let (mut columns, rows) = (taps_from(left, width), taps_from(top, height));
        if flipped {
            columns.reverse();
        }
        let whole = Pixels { samples: &self.pixels, width: self.width as usize };
        both_passes(whole, columns, rows, height_first((width, height), (side.into(), side.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Interpolation::{Bicubic, Bilinear};

    /// Computed with Pillow 13: `photo.crop((left, top, left + width, top + height)).resize((4, 4), filter)` of a
    /// photo of 40x30 whose samples are `index * 7 % 251`. The third part loses far more rows than columns, the last
    /// one is enlarged.
    #[rustfmt::skip]
    const GOLDEN: [([u32; 4], Interpolation, [u8; 48]); 4] = [
        ([5, 3, 21, 13], Bilinear, [
            133, 123, 126, 120, 120, 119, 135, 123, 130, 121, 123, 118, 120, 127, 128, 122, 127, 121, 123, 126, 128, 119, 125, 125,
            127, 130, 123, 130, 124, 125, 127, 119, 124, 121, 127, 127, 128, 131, 130, 124, 125, 129, 121, 127, 130, 126, 133, 121,
        ]),
        ([0, 0, 40, 30], Bicubic, [
            122, 123, 124, 124, 125, 124, 124, 126, 125, 126, 127, 126, 125, 127, 127, 125, 124, 125, 124, 124, 124, 125, 125, 124,
            125, 125, 125, 126, 126, 126, 126, 125, 126, 124, 125, 123, 122, 123, 121, 125, 125, 124, 125, 126, 125, 128, 127, 127,
        ]),
        ([11, 2, 3, 27], Bilinear, [
            116, 123, 99, 110, 117, 112, 114, 121, 128, 127, 134, 141, 102, 109, 116, 115, 122, 129, 131, 135, 142, 144, 143, 150,
            124, 131, 138, 137, 137, 144, 138, 127, 134, 126, 104, 111, 143, 150, 157, 133, 122, 129, 120, 109, 116, 109, 116, 123,
        ]),
        ([38, 28, 2, 2], Bicubic, [
            234, 241, 255, 240, 247, 198, 253, 255, 51, 255, 255, 0, 186, 193, 217, 192, 199, 165, 205, 212, 61, 211, 218, 20,
            90, 97, 108, 96, 103, 99, 109, 116, 82, 115, 122, 75, 42, 49, 54, 48, 55, 66, 61, 68, 92, 67, 74, 103,
        ]),
    ];

    #[test]
    fn resized_crop_equals_pillow_and_can_be_mirrored() {
        let pixels = (0..40 * 30 * 3).map(|index| (index * 7 % 251) as u8).collect();
        let photo = Photo { width: 40, height: 30, pixels };
        for ([left, top, width, height], interpolation, expected) in GOLDEN {
            let part = Rectangle { left, top, width, height };
            let [straight, flipped] = [false, true].map(|flipped| photo.resized_crop(part, 4, interpolation, flipped));
            assert_eq!(straight, expected, "{part:?}");
            let (pixels, _) = straight.as_chunks::<3>();
            let mirrored = pixels.chunks(4).flat_map(|row| row.iter().rev().copied()).collect::<Vec<_>>();
            assert_eq!(flipped.as_chunks::<3>().0, mirrored, "{part:?}");
        }
    }

    #[test]
    #[should_panic(expected = "within a photo of 40x30")]
    fn part_beyond_the_photo_panics() {
        let photo = Photo { width: 40, height: 30, pixels: vec![0; 40 * 30 * 3] };
        photo.resized_crop(Rectangle { left: 30, top: 0, width: 11, height: 5 }, 4, Bilinear, false);
    }
}
