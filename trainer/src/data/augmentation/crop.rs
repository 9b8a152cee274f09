//! Random crops: `torchvision.transforms.RandomResizedCrop`, or `RandomCrop` with padding.

use super::image::Image;
use crate::data::CounterRng;
use model::preprocess::{Photo, Preprocessing, Rectangle};

/// Configuration of the random crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RandomCrop {
    /// `RandomResizedCrop`: a region of the photo, resized.
    Resized {
        /// Minimum and maximum area, as fractions of the photo's area.
        scale: [f64; 2],
        /// Minimum and maximum aspect ratio (width / height).
        ratio: [f64; 2],
    },
    /// `RandomCrop` with padding: the centre crop used for validation, with a black border of `padding` pixels, cropped
    /// to its original size.
    Padded { padding: u32 },
}

/// Parameters drawn for a crop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CropParams {
    /// Region of the photo that is resized to the size of the image.
    Resized(Rectangle),
    /// Offset of the upper left corner within the centre crop, in pixels; may be negative.
    Shifted { left: i64, top: i64 },
}

/// Number of random rectangles that are tried before the central one is used, as in torchvision.
const ATTEMPTS: usize = 10;

impl RandomCrop {
    /// Draws a crop of a photo of `size` (width, height).
    pub fn draw(&self, size: (u32, u32), rng: &mut CounterRng) -> CropParams {
        match *self {
            RandomCrop::Resized { scale, ratio } => CropParams::Resized(random_rectangle(size, scale, ratio, rng)),
            RandomCrop::Padded { padding } => {
                let mut shift = || rng.below(2 * u64::from(padding) + 1) as i64 - i64::from(padding);
                let top = shift();
                CropParams::Shifted { left: shift(), top }
            }
        }
    }
}

impl CropParams {
    /// Returns the region that must be decoded of a photo of `size` (width, height).
    pub fn source_region(&self, (width, height): (u32, u32)) -> Rectangle {
        match *self {
            CropParams::Resized(rectangle) => rectangle,
            // The centre crop is taken after the whole photo is resized.
            CropParams::Shifted { .. } => Rectangle { left: 0, top: 0, width, height },
        }
    }

    /// Crops a photo in which the region of [`CropParams::source_region`] is at `region`. Returns u8 RGB
    /// `[crop, crop, 3]`.
    pub fn apply(&self, photo: &Photo, region: Rectangle, preprocessing: &Preprocessing, flipped: bool) -> Vec<u8> {
        let Preprocessing { crop, interpolation, .. } = *preprocessing;
        match *self {
            CropParams::Resized(_) => photo.resized_crop(region, crop, interpolation, flipped),
            CropParams::Shifted { left, top } => {
                let (side, pixels) = (crop as usize, preprocessing.apply(photo).pixels().to_vec());
                Image { width: side, height: side, pixels }.shifted(left, top, flipped).pixels
            }
        }
    }
}

/// Draws a rectangle whose area and aspect ratio are in the given ranges.
fn random_rectangle(size: (u32, u32), scale: [f64; 2], ratio: [f64; 2], rng: &mut CounterRng) -> Rectangle {
    for _ in 0..ATTEMPTS {
        let fraction = rng.uniform(scale[0], scale[1]);
        let ratio = rng.uniform(ratio[0].ln(), ratio[1].ln()).exp();
        if let Some((width, height)) = rectangle_size(size, fraction, ratio) {
            let top = rng.below(u64::from(size.1 - height) + 1) as u32;
            let left = rng.below(u64::from(size.0 - width) + 1) as u32;
            return Rectangle { left, top, width, height };
        }
    }
    central_rectangle(size, ratio)
}

/// Returns the width and height of a rectangle that covers `fraction` of the area and has this aspect ratio, if it is
/// not empty and fits. Halves are rounded to even, as in Python.
fn rectangle_size((width, height): (u32, u32), fraction: f64, ratio: f64) -> Option<(u32, u32)> {
    let area = f64::from(width) * f64::from(height) * fraction;
    let [w, h] = [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even());
    let fits = |side: f64, limit: u32| side >= 1.0 && side <= f64::from(limit);
    (fits(w, width) && fits(h, height)).then_some((w as u32, h as u32))
}

/// Returns the largest central rectangle whose aspect ratio is in the given range.
fn central_rectangle((width, height): (u32, u32), [min, max]: [f64; 2]) -> Rectangle {
    let ratio = f64::from(width) / f64::from(height);
    // For very small photos a side may round to 0, which torchvision does not check.
    let side = |length: f64, limit: u32| (length.round_ties_even() as u32).clamp(1, limit);
    let (w, h) = if ratio < min {
        (width, side(f64::from(width) / min, height))
    } else if ratio > max {
        (side(f64::from(height) * max, width), height)
    } else {
        (width, height)
    };
    Rectangle { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;

    const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

    /// Expected values from torchvision's code: `int(round(math.sqrt(area * fraction * ratio)))`, and with `/` for the
    /// height.
    #[test]
    fn rectangle_sizes_match_torchvision() {
        assert_eq!(rectangle_size((500, 375), 0.5, 1.0), Some((306, 306)));
        assert_eq!(rectangle_size((500, 375), 0.08, 0.75), Some((106, 141)));
        assert_eq!(rectangle_size((500, 375), 0.3, 4.0 / 3.0), Some((274, 205)));
        assert_eq!(rectangle_size((500, 375), 1.0, 4.0 / 3.0), Some((500, 375)));
        assert_eq!(rectangle_size((500, 375), 1.0, 1.0), None);
        // The square root of 6.25 is 2.5: halves are rounded to even.
        assert_eq!(rectangle_size((25, 25), 0.01, 1.0), Some((2, 2)));
    }

    /// Expected values from torchvision's fallback, which is used for very elongated photos.
    #[test]
    fn central_rectangles_match_torchvision() {
        let central = |size| central_rectangle(size, RATIO);
        assert_eq!(central((1000, 30)), Rectangle { left: 480, top: 0, width: 40, height: 30 });
        assert_eq!(central((30, 1000)), Rectangle { left: 0, top: 480, width: 30, height: 40 });
        assert_eq!(central((40, 40)), Rectangle { left: 0, top: 0, width: 40, height: 40 });
        assert_eq!(central((1, 1)), Rectangle { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn rectangles_lie_in_the_photo_and_respect_scale_and_ratio() {
        let (mut smallest, mut largest) = (f64::MAX, 0.0_f64);
        for index in 0..2000 {
            let mut rng = CounterRng::new(2, Purpose::Sample, &[0, index]);
            let part = random_rectangle((500, 375), [0.08, 1.0], RATIO, &mut rng);
            assert!(part.left + part.width <= 500 && part.top + part.height <= 375, "{part:?}");
            let fraction = f64::from(part.width) * f64::from(part.height) / (500.0 * 375.0);
            let ratio = f64::from(part.width) / f64::from(part.height);
            assert!((0.079..=1.0).contains(&fraction) && (0.74..1.35).contains(&ratio), "{part:?}");
            (smallest, largest) = (smallest.min(fraction), largest.max(fraction));
        }
        assert!(smallest < 0.09 && largest > 0.9, "{smallest}..{largest}");
    }

    #[test]
    fn padded_crops_cover_all_offsets() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..2000 {
            let mut rng = CounterRng::new(2, Purpose::Sample, &[0, index]);
            let part = RandomCrop::Padded { padding: 2 }.draw((500, 375), &mut rng);
            let CropParams::Shifted { left, top } = part else { panic!("{part:?}") };
            seen.insert((left, top));
        }
        assert!(seen.into_iter().eq((-2..=2).flat_map(|left| (-2..=2).map(move |top| (left, top)))));
    }
}
