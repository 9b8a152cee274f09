//! Filter taps of a resize: which source pixels contribute to an output pixel along one axis, and with which weights.
//! Follows Pillow's `precompute_coeffs`.

use std::ops::Range;

use super::parameters::Interpolation;

/// Fraction bits of the fixed-point weights, as in Pillow: 8 bits of value and 2 of overshoot remain in an `i32`.
pub(super) const PRECISION: u32 = 32 - 8 - 2;

/// The consecutive source pixels that contribute to one output pixel along one axis, with their weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterTaps {
    /// Index of the first source pixel.
    pub(super) first: usize,
    /// Fixed-point weights with [`PRECISION`] fraction bits, one for each source pixel.
    pub(super) weights: Vec<i32>,
}

/// Returns the taps of the `crop` pixels in the centre of an axis that is resized from `size` to `resized` pixels.
pub(super) fn centre_crop_taps(size: u32, resized: u64, crop: u32, interpolation: Interpolation) -> Vec<FilterTaps> {
    let offset = crop_offset(resized, crop);
    let outputs = offset..offset + u64::from(crop);
    if u64::from(size) == resized {
        // Pillow skips the pass, which is equal to a weight of one.
        return outputs.map(|x| FilterTaps { first: x as usize, weights: vec![1 << PRECISION] }).collect();
    }
    let scale = f64::from(size) / resized as f64;
    let stretch = scale.max(1.0);
    let support = interpolation.support() * stretch;
    let taps = |output| {
        let centre = (output as f64 + 0.5) * scale;
        // `as` truncates towards zero and saturates at zero, like the cast and the clamp in C.
        let first = (centre - support + 0.5) as usize;
        let end = ((centre + support + 0.5) as usize).min(size as usize);
        let weight_at = |x: usize| interpolation.weight((x as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..end).map(weight_at).collect();
        let total: f64 = weights.iter().sum();
        // Pillow rounds halves away from zero, as `round` does.
        let fixed = |weight: f64| (weight / total * f64::from(1 << PRECISION)).round() as i32;
        FilterTaps { first, weights: weights.into_iter().map(fixed).collect() }
    };
    outputs.map(taps).collect()
}

/// Returns the same taps for an axis of `size` pixels that is stored in reverse.
pub(super) fn mirrored(taps: Vec<FilterTaps>, size: u32) -> Vec<FilterTaps> {
    let mirror = |mut taps: FilterTaps| {
        taps.first = size as usize - taps.first - taps.weights.len();
        taps.weights.reverse();
        taps
    };
    taps.into_iter().map(mirror).collect()
}

/// Returns the range of source pixels that the taps read.
pub(super) fn source_range(taps: &[FilterTaps]) -> Range<usize> {
    let start = taps.iter().map(|taps| taps.first).min().unwrap_or(0);
    let end = taps.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(start);
    start..end
}

/// Makes the positions of the taps relative to `start`, which must not be after the first source pixel.
pub(super) fn rebase(taps: &mut [FilterTaps], start: usize) {
    taps.iter_mut().for_each(|taps| taps.first -= start);
}

/// Returns the number of pixels before a centre crop: half of those removed, with halves rounded to even as Python's
/// `round` does.
pub(super) fn crop_offset(size: u64, crop: u32) -> u64 {
    let removed = size - u64::from(crop);
    let half = removed / 2;
    if removed % 2 == 1 { half + half % 2 } else { half }
}

impl Interpolation {
    /// Returns half the filter's width, in pixels of the smaller image.
    fn support(self) -> f64 {
        match self {
            Interpolation::Bilinear => 1.0,
            Interpolation::Bicubic => 2.0,
        }
    }

    /// Returns the weight at a distance from the centre: of the triangle filter, or of Keys' cubic with a = -0.5.
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
    fn mirroring_twice_is_the_identity() {
        let straight = centre_crop_taps(37, 20, 16, Interpolation::Bicubic);
        let reversed = mirrored(straight.clone(), 37);
        assert_ne!(reversed, straight);
        assert_eq!(mirrored(reversed, 37), straight);
    }

    #[test]
    fn source_range_covers_all_taps() {
        let mut taps = centre_crop_taps(1000, 100, 50, Interpolation::Bilinear);
        assert_eq!(source_range(&taps), 245..755);
        rebase(&mut taps, 245);
        assert_eq!(source_range(&taps), 0..510);
    }
}
