//! How a sample is changed: torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`.

use super::Draws;
use crate::recipe::Recipe;
use model::preprocess::Rectangle;

/// What is drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// The least and the largest share of a photo's area.
    pub scale: [f64; 2],
    /// The least and the largest width by height.
    pub ratio: [f64; 2],
    /// How likely a photo is mirrored from left to right.
    pub flip: f64,
}

/// Rectangles that are tried, as in torchvision, before the middle of the photo is taken.
const TRIES: usize = 10;

impl Augmentation {
    pub fn new(recipe: &Recipe) -> Self {
        let Recipe { crop_scale, crop_ratio, flip, .. } = *recipe;
        Augmentation { scale: crop_scale.unwrap_or([1.0; 2]), ratio: crop_ratio.unwrap_or([1.0; 2]), flip }
    }

    /// A part of a photo of `size`, width by height, and whether it is mirrored.
    pub fn draw(&self, size: (u32, u32), draws: &mut Draws) -> (Rectangle, bool) {
        let part = self.part(size, draws);
        (part, draws.unit() < self.flip)
    }

    fn part(&self, size: (u32, u32), draws: &mut Draws) -> Rectangle {
        for _ in 0..TRIES {
            let share = draws.between(self.scale[0], self.scale[1]);
            let ratio = draws.between(self.ratio[0].ln(), self.ratio[1].ln()).exp();
            if let Some((width, height)) = sides(size, share, ratio) {
                let top = draws.below(u64::from(size.1 - height) + 1) as u32;
                let left = draws.below(u64::from(size.0 - width) + 1) as u32;
                return Rectangle { left, top, width, height };
            }
        }
        middle(size, self.ratio)
    }
}

/// A rectangle with this share of the area and this ratio, if it has pixels and fits. Halves are rounded to even, as
/// Python rounds them.
fn sides((width, height): (u32, u32), share: f64, ratio: f64) -> Option<(u32, u32)> {
    let area = f64::from(width) * f64::from(height) * share;
    let [w, h] = [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even());
    let fits = |side: f64, whole: u32| side >= 1.0 && side <= f64::from(whole);
    (fits(w, width) && fits(h, height)).then_some((w as u32, h as u32))
}

/// The largest rectangle in the middle whose ratio is allowed.
fn middle((width, height): (u32, u32), [least, largest]: [f64; 2]) -> Rectangle {
    let ratio = f64::from(width) / f64::from(height);
    // A side of a photo of one pixel would round to nothing, which torchvision does not ask.
    let side = |length: f64, whole: u32| (length.round_ties_even() as u32).clamp(1, whole);
    let (w, h) = if ratio < least {
        (width, side(f64::from(width) / least, height))
    } else if ratio > largest {
        (side(f64::from(height) * largest, width), height)
    } else {
        (width, height)
    };
    Rectangle { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;

    const TORCHVISION: Augmentation = Augmentation { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], flip: 0.5 };

    /// By torchvision's lines in Python: `int(round(math.sqrt(area * share * ratio)))`, and with `/` for the height.
    #[test]
    fn sides_are_those_of_torchvision() {
        assert_eq!(sides((500, 375), 0.5, 1.0), Some((306, 306)));
        assert_eq!(sides((500, 375), 0.08, 0.75), Some((106, 141)));
        assert_eq!(sides((500, 375), 0.3, 4.0 / 3.0), Some((274, 205)));
        assert_eq!(sides((500, 375), 1.0, 4.0 / 3.0), Some((500, 375)));
        assert_eq!(sides((500, 375), 1.0, 1.0), None);
        // 2.5 and 6.25 squared: a half goes to the even neighbour.
        assert_eq!(sides((25, 25), 0.01, 1.0), Some((2, 2)));
    }

    /// By torchvision's fallback, which long photos end in.
    #[test]
    fn the_middle_is_that_of_torchvision() {
        let middle = |size| middle(size, TORCHVISION.ratio);
        assert_eq!(middle((1000, 30)), Rectangle { left: 480, top: 0, width: 40, height: 30 });
        assert_eq!(middle((30, 1000)), Rectangle { left: 0, top: 480, width: 30, height: 40 });
        assert_eq!(middle((40, 40)), Rectangle { left: 0, top: 0, width: 40, height: 40 });
        assert_eq!(middle((1, 1)), Rectangle { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn parts_lie_in_the_photo_and_keep_share_and_ratio() {
        let (mut flipped, mut smallest, mut largest) = (0, f64::MAX, 0.0_f64);
        for index in 0..2000 {
            let mut draws = Draws::new(2, Purpose::Sample, &[0, index]);
            let (part, flip) = TORCHVISION.draw((500, 375), &mut draws);
            assert!(part.left + part.width <= 500 && part.top + part.height <= 375, "{part:?}");
            let share = f64::from(part.width) * f64::from(part.height) / (500.0 * 375.0);
            let ratio = f64::from(part.width) / f64::from(part.height);
            assert!((0.079..=1.0).contains(&share) && (0.74..1.35).contains(&ratio), "{part:?}");
            (smallest, largest) = (smallest.min(share), largest.max(share));
            flipped += usize::from(flip);
        }
        assert!(smallest < 0.09 && largest > 0.9, "{smallest}..{largest}");
        assert!((900..1100).contains(&flipped), "{flipped} of 2000");
    }
}
