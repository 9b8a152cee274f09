//! The horizontal and the vertical pass of a resize over u8 RGB, in Pillow's fixed-point arithmetic. Sums of integers
//! depend neither on their order nor on the width of the vectors.
//!
//! The kernels are plain loops over arrays of fixed length, which the compiler vectorises: with 128 bits in wasm and on
//! ARM, and with 256 bits on x86-64 processors with AVX2 (the x86-64 baseline has no 32-bit vector product).

use std::ops::Range;

use super::filter_taps::{FilterTaps, PRECISION};

/// One half in the fixed point of the weights, added so that the shift rounds to nearest.
const HALF: i32 = 1 << (PRECISION - 1);

/// Number of rows processed together, so that each weight is loaded once for all of them.
const ROWS: usize = 4;

/// Number of samples per vector, which is also the number of pixels in three vectors.
const LANES: usize = 8;

/// Maximum number of source pixels per output pixel that are summed pixel by pixel. More pixels fill vectors, for which
/// adding up the lanes pays off.
const MAX_PER_PIXEL: usize = 8;

/// Number of samples that the vertical pass computes at the same time.
const TILE: usize = 64;

/// Rows of `width` pixels each, u8 RGB.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) samples: &'a [u8],
    pub(super) width: usize,
}

/// Resizes the given rows of `source`: one output pixel for each element of `windows`.
pub(super) fn horizontal(source: Pixels, rows: Range<usize>, windows: &[FilterTaps]) -> Vec<u8> {
    let longest = windows.iter().map(|window| window.weights.len()).max().unwrap_or(0);
    let side = windows.len() * 3;
    let mut resized = vec![0; rows.len() * side];
    // Summing pixel by pixel reads one sample beyond the pixel, which may belong to the next row.
    let pixelwise = if longest <= MAX_PER_PIXEL { rows.len().saturating_sub(1) / ROWS * ROWS } else { 0 };
    let (first, rest) = resized.split_at_mut(pixelwise * side);
    let (first_rows, rest_rows) = (rows.start..rows.start + pixelwise, rows.start + pixelwise..rows.end);
    if pixelwise > 0 {
        let windows = &PaddedTaps::new(windows, longest, source.width);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn with_avx2(source: Pixels, rows: Range<usize>, windows: &PaddedTaps, resized: &mut [u8]) {
                pixel_by_pixel(source, rows, windows, resized)
            }
            // SAFETY: the processor has AVX2, the only requirement of the function.
            unsafe { with_avx2(source, first_rows, windows, first) };
        } else {
            pixel_by_pixel(source, first_rows, windows, first);
        }
        #[cfg(not(target_arch = "x86_64"))]
        pixel_by_pixel(source, first_rows, windows, first);
    }
    in_vectors(source, rest_rows, windows, longest.next_multiple_of(LANES), rest);
    resized
}

/// Resizes with up to `taps` source pixels per output pixel; `taps` is a multiple of [`LANES`].
fn in_vectors(source: Pixels, rows: Range<usize>, windows: &[FilterTaps], taps: usize, resized: &mut [u8]) {
    if source.width < taps {
        let wider = widened(source, rows.clone(), taps);
        return in_vectors(Pixels { samples: &wider, width: taps }, 0..rows.len(), windows, taps, resized);
    }
    let windows = &PaddedTaps::new(windows, taps, source.width);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, rows: Range<usize>, windows: &PaddedTaps, resized: &mut [u8]) {
            horizontal_pass(source, rows, windows, resized)
        }
        // SAFETY: the processor has AVX2, the only requirement of the function.
        return unsafe { with_avx2(source, rows, windows, resized) };
    }
    horizontal_pass(source, rows, windows, resized)
}

/// Copies the given rows, padded with black at the right to `width` pixels.
fn widened(source: Pixels, rows: Range<usize>, width: usize) -> Vec<u8> {
    let mut wider = vec![0; rows.len() * width * 3];
    let rows = &source.samples[rows.start * source.width * 3..rows.end * source.width * 3];
    for (from, to) in rows.chunks_exact(source.width * 3).zip(wider.chunks_exact_mut(width * 3)) {
        to[..from.len()].copy_from_slice(from);
    }
    wider
}

/// Resizes the given columns of `source`: one output row for each element of `windows`.
pub(super) fn vertical(source: Pixels, columns: Range<usize>, windows: &[FilterTaps]) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, columns: Range<usize>, windows: &[FilterTaps]) -> Vec<u8> {
            vertical_pass(source, columns, windows)
        }
        // SAFETY: the processor has AVX2, the only requirement of the function.
        return unsafe { with_avx2(source, columns, windows) };
    }
    vertical_pass(source, columns, windows)
}

/// Filter taps in samples instead of pixels, padded with zero weights to the same length.
struct PaddedTaps {
    /// Index of the first sample of each window.
    firsts: Vec<usize>,
    /// Weights, `[windows, taps]`. Each weight occurs three times, for the three samples of its pixel.
    weights: Vec<i32>,
    /// Number of samples per window.
    taps: usize,
}

impl PaddedTaps {
    /// Pads each window to `pixels` source pixels in rows of `width`; at the right edge the padding precedes the
    /// weights.
    fn new(windows: &[FilterTaps], pixels: usize, width: usize) -> Self {
        let taps = pixels * 3;
        let mut padded = PaddedTaps { firsts: Vec::new(), weights: vec![0; windows.len() * taps], taps };
        for (window, weights) in windows.iter().zip(padded.weights.chunks_exact_mut(taps)) {
            let first = window.first.min(width - pixels);
            padded.firsts.push(first * 3);
            let weights = weights[(window.first - first) * 3..].chunks_exact_mut(3);
            weights.zip(&window.weights).for_each(|(triple, &weight)| triple.fill(weight));
        }
        padded
    }
}

#[inline(always)]
fn horizontal_pass(source: Pixels, rows: Range<usize>, windows: &PaddedTaps, resized: &mut [u8]) {
    let (stride, side) = (source.width * 3, windows.firsts.len() * 3);
    let source = &source.samples[rows.start * stride..rows.end * stride];
    let mut from = source.chunks_exact(stride * ROWS);
    let mut to = resized.chunks_exact_mut(side * ROWS);
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        resize_rows::<ROWS>(from, to, windows);
    }
    for (from, to) in from.remainder().chunks_exact(stride).zip(to.into_remainder().chunks_exact_mut(side)) {
        resize_rows::<1>(from, to, windows);
    }
}

/// Resizes like [`horizontal_pass`], faster if there are few source pixels per output pixel. The number of rows is a
/// multiple of [`ROWS`], and another row follows the last one.
#[inline(always)]
fn pixel_by_pixel(source: Pixels, rows: Range<usize>, windows: &PaddedTaps, resized: &mut [u8]) {
    let (stride, side) = (source.width * 3, windows.firsts.len() * 3);
    let from = rows.step_by(ROWS).map(|row| &source.samples[row * stride..]);
    for (from, to) in from.zip(resized.chunks_exact_mut(side * ROWS)) {
        for (index, &first) in windows.firsts.iter().enumerate() {
            let weights = &windows.weights[index * windows.taps..][..windows.taps];
            let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &from[row * stride + first..][..windows.taps + 1]);
            // The three samples of a pixel; the fourth lane belongs to the next pixel and is discarded.
            let mut sums = [[HALF; 4]; ROWS];
            for (pixel, weights) in weights.as_chunks::<3>().0.iter().enumerate() {
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let samples: [u8; 4] = *row[pixel * 3..].first_chunk().expect("a pixel and one more sample");
                    *sums = std::array::from_fn(|lane| sums[lane] + weights[0] * i32::from(samples[lane]));
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                to[row * side + index * 3..][..3].copy_from_slice(&sums.map(to_u8)[..3]);
            }
        }
    }
}

/// Resizes `N` rows at the same time.
#[inline(always)]
fn resize_rows<const N: usize>(from: &[u8], to: &mut [u8], windows: &PaddedTaps) {
    let (stride, side) = (from.len() / N, to.len() / N);
    for (index, &first) in windows.firsts.iter().enumerate() {
        let weights = &windows.weights[index * windows.taps..][..windows.taps];
        let rows: [&[u8]; N] = std::array::from_fn(|row| &from[row * stride + first..][..windows.taps]);
        let sums = dot(rows, weights);
        for (row, sums) in sums.into_iter().enumerate() {
            to[row * side + index * 3..][..3].copy_from_slice(&sums.map(to_u8));
        }
    }
}

/// Returns the weighted sums of each row's samples, by colour.
#[inline(always)]
fn dot<const N: usize>(rows: [&[u8]; N], weights: &[i32]) -> [[i32; 3]; N] {
    // Three vectors hold `LANES` whole pixels, so the colour of each lane is the same in all groups of three vectors.
    let (mut first, mut second, mut third) = ([[0; LANES]; N], [[0; LANES]; N], [[0; LANES]; N]);
    let (vectors, _) = weights.as_chunks::<LANES>();
    let (triples, _) = vectors.as_chunks::<3>();
    let mut at = 0;
    for triple in triples {
        for row in 0..N {
            let samples = &rows[row][at..][..3 * LANES];
            let ([one, two, three], _) = samples.as_chunks::<LANES>() else {
                unreachable!("the slice has the length of three vectors")
            };
            first[row] = multiply_add(first[row], &triple[0], one);
            second[row] = multiply_add(second[row], &triple[1], two);
            third[row] = multiply_add(third[row], &triple[2], three);
        }
        at += 3 * LANES;
    }
    std::array::from_fn(|row| by_colour([first[row], second[row], third[row]]))
}

/// Adds up the lanes of each colour, plus one half for rounding.
#[inline(always)]
fn by_colour(lanes: [[i32; LANES]; 3]) -> [i32; 3] {
    let mut sums = [HALF; 3];
    for pixel in lanes.as_flattened().as_chunks::<3>().0 {
        sums = std::array::from_fn(|colour| sums[colour] + pixel[colour]);
    }
    sums
}

#[inline(always)]
fn multiply_add(sums: [i32; LANES], weights: &[i32; LANES], samples: &[u8; LANES]) -> [i32; LANES] {
    std::array::from_fn(|lane| sums[lane] + weights[lane] * i32::from(samples[lane]))
}

#[inline(always)]
fn vertical_pass(source: Pixels, columns: Range<usize>, windows: &[FilterTaps]) -> Vec<u8> {
    let (stride, length) = (source.width * 3, columns.len() * 3);
    let mut resized = vec![0; windows.len() * length];
    for (window, to) in windows.iter().zip(resized.chunks_exact_mut(length)) {
        let from = &source.samples[window.first * stride + columns.start * 3..];
        let mut tiles = to.chunks_exact_mut(TILE);
        let mut at = 0;
        for tile in tiles.by_ref() {
            let mut sums = [HALF; TILE];
            for (row, &weight) in window.weights.iter().enumerate() {
                let samples: &[u8; TILE] =
                    from[row * stride + at..].first_chunk().expect("the tile lies within the row");
                for lane in 0..TILE {
                    sums[lane] += weight * i32::from(samples[lane]);
                }
            }
            for lane in 0..TILE {
                tile[lane] = to_u8(sums[lane]);
            }
            at += TILE;
        }
        for (lane, value) in tiles.into_remainder().iter_mut().enumerate() {
            let rows = window.weights.iter().enumerate();
            let sum = rows.fold(HALF, |sum, (row, weight)| sum + weight * i32::from(from[row * stride + at + lane]));
            *value = to_u8(sum);
        }
    }
    resized
}

#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(source: &[u8], step: usize, first: usize, weights: &[i32]) -> u8 {
        let sum = weights
            .iter()
            .enumerate()
            .fold(HALF, |sum, (i, weight)| sum + weight * i32::from(source[first + i * step]));
        to_u8(sum)
    }

    /// Windows of every length at both edges; some weights are negative.
    fn windows(size: usize, longest: usize) -> Vec<FilterTaps> {
        let window = |length: usize, first: usize| {
            let weight =
                |i: usize| (1 << PRECISION) / length as i32 + if i.is_multiple_of(2) { 70_001 } else { -90_007 };
            FilterTaps { first, weights: (0..length).map(weight).collect() }
        };
        (1..=longest).flat_map(|length| [window(length, 0), window(length, size - length)]).collect()
    }

    /// Tests both the vectors of this processor and those of the baseline.
    #[test]
    fn vectorised_passes_equal_a_scalar_loop() {
        for (width, height) in [(1, 1), (5, 4), (8, 7), (30, 9), (64, 11), (77, 13)] {
            let samples: Vec<u8> = (0..width * height * 3).map(|i| (i * i * 31 % 257) as u8).collect();
            let source = Pixels { samples: &samples, width };
            let (columns, rows) = (windows(width, width.min(25)), windows(height, height.min(25)));

            let expected_of = |columns: &[FilterTaps]| {
                let mut expected = Vec::new();
                for y in 0..height {
                    for FilterTaps { first, weights } in columns {
                        expected.extend((0..3).map(|c| reference(&samples, 3, (y * width + first) * 3 + c, weights)));
                    }
                }
                expected
            };
            let expected = expected_of(&columns);
            assert!(horizontal(source, 0..height, &columns) == expected, "{width}x{height} horizontally");
            if width.is_multiple_of(LANES) {
                let padded = PaddedTaps::new(&columns, width, width);
                let mut resized = vec![0; expected.len()];
                horizontal_pass(source, 0..height, &padded, &mut resized);
                assert!(resized == expected, "{width}x{height} horizontally, baseline");
            }
            for longest in 1..=MAX_PER_PIXEL.min(width) {
                let few = windows(width, longest);
                let expected = expected_of(&few);
                assert!(
                    horizontal(source, 0..height, &few) == expected,
                    "{width}x{height} horizontally, {longest} pixels"
                );
                let padded = PaddedTaps::new(&few, longest, width);
                let rows = (height - 1) / ROWS * ROWS;
                let mut resized = vec![0; rows * few.len() * 3];
                pixel_by_pixel(source, 0..rows, &padded, &mut resized);
                assert!(expected.starts_with(&resized), "{width}x{height} horizontally, {longest} pixels, baseline");
            }

            let mut expected = Vec::new();
            for FilterTaps { first, weights } in &rows {
                let from = first * width * 3;
                expected.extend((0..width * 3).map(|x| reference(&samples, width * 3, from + x, weights)));
            }
            assert!(vertical(source, 0..width, &rows) == expected, "{width}x{height} vertically");
            assert!(vertical_pass(source, 0..width, &rows) == expected, "{width}x{height} vertically, baseline");
        }
    }
}
