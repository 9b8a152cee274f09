//! Which source pixels make an output pixel along one axis, and with which weights: Pillow's `precompute_coeffs`.

use std::ops::Range;

use super::Interpolation;

/// Fixed point of the weights, as in Pillow: 8 bits of value and 2 of overshoot remain in an `i32`.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

/// The source pixels that make one output pixel along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) first: usize,
    pub(super) weights: Vec<i32>,
}

/// Of an axis of `size` pixels resized to `resized`, the windows of the `crop` in the middle.
pub(super) fn windows(size: u32, resized: u64, crop: u32, interpolation: Interpolation) -> Vec<Window> {
    let offset = crop_offset(resized, crop);
    let outputs = offset..offset + u64::from(crop);
    if u64::from(size) == resized {
        // Pillow skips the pass; a weight of one changes nothing.
        return outputs.map(|x| Window { first: x as usize, weights: vec![1 << PRECISION] }).collect();
    }
    let scale = f64::from(size) / resized as f64;
    let stretch = scale.max(1.0);
    let support = interpolation.support() * stretch;
    let window = |output| {
        let centre = (output as f64 + 0.5) * scale;
        // `as` truncates towards zero and stops at zero, like the cast and the clamp in C.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(size as usize);
        let at = |x: usize| interpolation.weight((x as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(at).collect();
        let total: f64 = weights.iter().sum();
        // Pillow rounds halves away from zero, as `round` does.
        let fixed = |weight: f64| (weight / total * f64::from(1 << PRECISION)).round() as i32;
        Window { first, weights: weights.into_iter().map(fixed).collect() }
    };
    outputs.map(window).collect()
}

/// The same windows on an axis of `size` pixels that is stored the other way round.
pub(super) fn mirrored(windows: Vec<Window>, size: u32) -> Vec<Window> {
    let mirror = |mut window: Window| {
        window.first = size as usize - window.first - window.weights.len();
        window.weights.reverse();
        window
    };
    windows.into_iter().map(mirror).collect()
}

/// What of an axis the windows look at.
pub(super) fn span(windows: &[Window]) -> Range<usize> {
    let start = windows.iter().map(|window| window.first).min().unwrap_or(0);
    let end = windows.iter().map(|window| window.first + window.weights.len()).max().unwrap_or(start);
    start..end
}

/// Lets the windows count from `start`, which none of them begins before.
pub(super) fn rebase(windows: &mut [Window], start: usize) {
    windows.iter_mut().for_each(|window| window.first -= start);
}

/// Pixels before the crop: half of what is cut away, halves rounded to even as Python's `round` does.
pub(super) fn crop_offset(size: u64, crop: u32) -> u64 {
    let cut = size - u64::from(crop);
    let half = cut / 2;
    if cut % 2 == 1 { half + half % 2 } else { half }
}

impl Interpolation {
    /// Half the filter's width, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    /// The triangle, and Keys' cubic with a = -0.5.
    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Interpolation::Bilinear => (1.0 - x).max(0.0),
            Interpolation::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Interpolation::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Interpolation::Bicubic => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_twice_changes_nothing() {
        let straight = windows(37, 20, 16, Interpolation::Bicubic);
        let there = mirrored(straight.clone(), 37);
        assert_ne!(there, straight);
        assert_eq!(mirrored(there, 37), straight);
    }

    #[test]
    fn a_span_covers_every_window() {
        let mut all = windows(1000, 100, 50, Interpolation::Bilinear);
        assert_eq!(span(&all), 245..755);
        rebase(&mut all, 245);
        assert_eq!(span(&all), 0..510);
    }
}
