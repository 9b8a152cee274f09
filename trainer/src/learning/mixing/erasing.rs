//! `torchvision.transforms.RandomErasing` with its default ranges of area and aspect ratio.

use super::rectangle::PixelRect;
use crate::data::CounterRng;

/// Minimum and maximum area, as fractions of the image's area.
const SCALE: [f64; 2] = [0.02, 0.33];
/// Minimum and maximum aspect ratio (height / width).
const RATIO: [f64; 2] = [0.3, 3.3];
/// Number of random rectangles that are tried; if none fits, nothing is erased.
const ATTEMPTS: usize = 10;

/// Draws a rectangle of an image of `side` by `side` pixels; `None` if none of the attempts fits.
pub fn draw(side: usize, rng: &mut CounterRng) -> Option<PixelRect> {
    for _ in 0..ATTEMPTS {
        let fraction = rng.uniform(SCALE[0], SCALE[1]);
        let ratio = rng.uniform(RATIO[0].ln(), RATIO[1].ln()).exp();
        if let Some((height, width)) = rectangle_size(side, fraction, ratio) {
            let [top, left] = [height, width].map(|size| rng.below((side - size) as u64 + 1) as usize);
            return Some(PixelRect { rows: top..top + height, columns: left..left + width });
        }
    }
    None
}

/// Returns the height and width of a rectangle that covers `fraction` of the area and has this aspect ratio, if both
/// are smaller than `side`. Halves are rounded to even, as in Python.
fn rectangle_size(side: usize, fraction: f64, ratio: f64) -> Option<(usize, usize)> {
    let area = (side * side) as f64 * fraction;
    let [height, width] = [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize);
    (height < side && width < side).then_some((height, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;

    /// Expected values from torchvision's code: `int(round(math.sqrt(area * fraction * ratio)))`, and with `/` for the
    /// width.
    #[test]
    fn rectangle_sizes_match_torchvision() {
        assert_eq!(rectangle_size(224, 0.1, 1.0), Some((71, 71)));
        assert_eq!(rectangle_size(224, 0.02, 0.3), Some((17, 58)));
        assert_eq!(rectangle_size(176, 0.25, 3.3), Some((160, 48)));
        // The square root of 6.25 is 2.5: halves are rounded to even.
        assert_eq!(rectangle_size(5, 0.25, 1.0), Some((2, 2)));
        assert_eq!(rectangle_size(224, 0.33, 3.3), None);
        assert_eq!(rectangle_size(224, 0.33, 0.3), None);
    }

    #[test]
    fn rectangles_lie_in_the_image_and_respect_scale_and_ratio() {
        let (mut smallest, mut largest) = (f64::MAX, 0.0_f64);
        for index in 0..2000 {
            let mut rng = CounterRng::new(2, Purpose::Mixing, &[0, index, 0]);
            let Some(PixelRect { rows, columns }) = draw(224, &mut rng) else {
                panic!("nothing is erased for {index}")
            };
            assert!(rows.end <= 224 && columns.end <= 224, "{rows:?}, {columns:?}");
            let fraction = (rows.len() * columns.len()) as f64 / (224.0 * 224.0);
            let ratio = rows.len() as f64 / columns.len() as f64;
            assert!((0.019..0.34).contains(&fraction) && (0.29..3.4).contains(&ratio), "{rows:?}, {columns:?}");
            (smallest, largest) = (smallest.min(fraction), largest.max(fraction));
        }
        assert!(smallest < 0.025 && largest > 0.32, "{smallest}..{largest}");
    }
}
