//! Antialiased resizing to a short side and the crop from the middle, with the rounding of Pillow and torchvision.
//!
//! Only what the crop shows is computed, so a photo of 1x50000 costs no more than its neighbours. Written here to follow
//! Pillow's `Resample.c` to the bit: `fast_image_resize` takes its two passes in the other order and its weights in 16
//! bits, and is up to 29 of 255 away at the edges of a bicubic.

use std::ops::Range;

use super::{Interpolation, Photo};

/// Fixed point of the weights, as in Pillow: 8 bits of value and 2 of overshoot remain in an `i32`.
const PRECISION: u32 = 32 - 8 - 2;

/// One half in that fixed point, so that shifting rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// u8 RGB `[crop, crop, 3]`: the middle of `photo` after its short side was resized to `resize`, at least `crop`.
pub(super) fn resize_and_crop(photo: &Photo, resize: u32, crop: u32, interpolation: Interpolation) -> Vec<u8> {
    let (width, height) = resized_size(photo.width, photo.height, resize);
    let mut columns = windows(photo.width, width, crop, interpolation);
    let mut rows = windows(photo.height, height, crop, interpolation);
    let (full, side) = (photo.width as usize, crop as usize);

    // Between the passes the values are bytes again, so their order shows. Pillow 13 shrinks the height first where
    // that drops more than twice as many rows as columns; before, it never did.
    let dropped = |from: u32, to: u64| i64::from(from) - to as i64;
    let (fewer_columns, fewer_rows) = (dropped(photo.width, width), dropped(photo.height, height));
    if fewer_rows > 0 && fewer_rows > 2 * fewer_columns {
        let needed = rebase(&mut columns);
        let flat = vertical(&photo.pixels, full, needed.clone(), &rows);
        horizontal(&flat, needed.len(), 0..side, &columns)
    } else {
        let needed = rebase(&mut rows);
        let narrow = horizontal(&photo.pixels, full, needed, &columns);
        vertical(&narrow, side, 0..side, &rows)
    }
}

/// The given rows of `source`, u8 RGB of `width`, with one pixel a window.
fn horizontal(source: &[u8], width: usize, rows: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(rows.len() * windows.len() * 3);
    for row in source.chunks_exact(width * 3).skip(rows.start).take(rows.len()) {
        let (pixels, _) = row.as_chunks::<3>();
        for window in windows {
            let mut sums = [HALF; 3];
            for (pixel, weight) in pixels[window.first..].iter().zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(value);
                }
            }
            resized.extend(sums.map(to_u8));
        }
    }
    resized
}

/// The given columns of `source`, u8 RGB of `width`, with one row a window.
fn vertical(source: &[u8], width: usize, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(windows.len() * columns.len() * 3);
    let mut sums = vec![0; columns.len() * 3];
    for window in windows {
        sums.fill(HALF);
        for (row, weight) in source.chunks_exact(width * 3).skip(window.first).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(&row[columns.start * 3..columns.end * 3]) {
                *sum += weight * i32::from(value);
            }
        }
        resized.extend(sums.iter().map(|&sum| to_u8(sum)));
    }
    resized
}

fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Width and height with the short side at `resize`, the long one truncated, as torchvision's `Resize` has it.
fn resized_size(width: u32, height: u32, resize: u32) -> (u64, u64) {
    let (short, long) = (width.min(height), width.max(height));
    let long = (u64::from(resize) * u64::from(long)) / u64::from(short);
    if width <= height { (resize.into(), long) } else { (long, resize.into()) }
}

/// Pixels before the crop: half of what is cut away, halves rounded to even as Python's `round` does.
fn crop_offset(size: u64, crop: u32) -> u64 {
    let cut = size - u64::from(crop);
    let half = cut / 2;
    if cut % 2 == 1 { half + half % 2 } else { half }
}

/// The source pixels that make one output pixel along one axis.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// What of an axis the windows look at; from then on they count from its start.
fn rebase(windows: &mut [Window]) -> Range<usize> {
    let start = windows.iter().map(|window| window.first).min().unwrap_or(0);
    let end = windows.iter().map(|window| window.first + window.weights.len()).max().unwrap_or(start);
    windows.iter_mut().for_each(|window| window.first -= start);
    start..end
}

/// Of an axis of `size` pixels resized to `resized`, the windows of the `crop` in the middle.
fn windows(size: u32, resized: u64, crop: u32, interpolation: Interpolation) -> Vec<Window> {
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

    fn filled(width: u32, height: u32) -> Photo {
        let pixels = (0..width as usize * height as usize * 3).map(|i| (i * 7 % 251) as u8).collect();
        Photo { width, height, pixels }
    }

    /// Computed with torchvision 0.29: `_compute_resized_output_size`, and `int(round((size - crop) / 2.0))`.
    #[test]
    fn sizes_and_offsets_are_those_of_torchvision() {
        let table = [
            ((500, 375, 256), (341, 256), (58, 16)),
            ((375, 500, 256), (256, 341), (16, 58)),
            ((333, 500, 256), (256, 384), (16, 80)),
            ((250, 216, 256), (296, 256), (36, 16)),
            ((153, 214, 232), (232, 324), (4, 50)),
            ((1280, 1024, 232), (290, 232), (33, 4)),
            ((256, 256, 256), (256, 256), (16, 16)),
            ((300, 256, 256), (300, 256), (38, 16)),
            ((640, 427, 256), (383, 256), (80, 16)),
            ((257, 256, 224), (224, 224), (0, 0)),
            ((4032, 3024, 232), (309, 232), (42, 4)),
            ((1, 50000, 256), (256, 12_800_000), (16, 6_399_888)),
            ((50000, 1, 224), (11_200_000, 224), (5_599_888, 0)),
        ];
        for ((width, height, resize), size, offsets) in table {
            let resized = resized_size(width, height, resize);
            assert_eq!(resized, size, "{width}x{height} to {resize}");
            assert_eq!((crop_offset(resized.0, 224), crop_offset(resized.1, 224)), offsets, "{width}x{height}");
        }
    }

    #[test]
    fn a_photo_of_the_right_size_is_only_cropped() {
        let photo = filled(10, 8);
        let cropped = resize_and_crop(&photo, 8, 4, Interpolation::Bicubic);
        let expected: Vec<u8> = (2..6).flat_map(|y| photo.pixels[(y * 10 + 3) * 3..][..12].to_vec()).collect();
        assert_eq!(cropped, expected);
    }

    #[test]
    fn one_colour_stays_that_colour() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (width, height) in [(1, 1), (3, 2), (300, 200), (1, 50_000), (50_000, 1), (1000, 7)] {
                let photo = Photo { width, height, pixels: [201, 0, 255].repeat((width * height) as usize) };
                let cropped = resize_and_crop(&photo, 40, 32, interpolation);
                assert_eq!(cropped, [201, 0, 255].repeat(32 * 32), "{width}x{height} {interpolation:?}");
            }
        }
    }

    #[test]
    fn the_crop_is_what_the_whole_would_show() {
        let photo = filled(90, 60);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let square = Photo { width: 60, height: 60, pixels: resize_and_crop(&photo, 60, 60, interpolation) };
            let whole = resize_and_crop(&square, 33, 33, interpolation);
            let cropped = resize_and_crop(&square, 33, 21, interpolation);
            let expected: Vec<u8> = (6..27).flat_map(|y| whole[(y * 33 + 6) * 3..][..63].to_vec()).collect();
            assert_eq!(cropped, expected);
        }
    }
}
