//! The two passes of a resize over u8 RGB, in Pillow's fixed point: integers, so neither the order of summing nor the
//! width of the vectors can change a value.
//!
//! Written in plain loops over arrays of a fixed length, which the compiler turns into vectors: of 128 bits in wasm and
//! on ARM, and of 256 where an x86-64 processor has AVX2 (its baseline has no vector product of 32 bits).

use std::ops::Range;

use super::windows::{PRECISION, Window};

/// One half in the weights' fixed point, so that shifting rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Rows that share one reading of the weights.
const ROWS: usize = 4;

/// Samples of a vector, and thus pixels of three vectors.
const LANES: usize = 8;

/// Pixels of the longest window that is summed pixel by pixel. What is longer fills vectors, and pays for adding up their
/// lanes.
const FEW: usize = 8;

/// Samples whose sums a vertical pass keeps at hand.
const TILE: usize = 64;

/// u8 RGB of `width`; the last row is whole.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) samples: &'a [u8],
    pub(super) width: usize,
}

/// The given rows of `source`, with one pixel a window.
pub(super) fn horizontal(source: Pixels, rows: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let longest = windows.iter().map(|window| window.weights.len()).max().unwrap_or(0);
    let side = windows.len() * 3;
    let mut resized = vec![0; rows.len() * side];
    // Pixel by pixel, a sample is read that belongs to the next row.
    let few = if longest <= FEW { rows.len().saturating_sub(1) / ROWS * ROWS } else { 0 };
    let (first, rest) = resized.split_at_mut(few * side);
    let rows = (rows.start..rows.start + few, rows.start + few..rows.end);
    if few > 0 {
        let windows = &Padded::new(windows, longest, source.width);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            #[target_feature(enable = "avx2")]
            fn with_avx2(source: Pixels, rows: Range<usize>, windows: &Padded, resized: &mut [u8]) {
                pixel_by_pixel(source, rows, windows, resized)
            }
            // SAFETY: the processor has AVX2, which is all that the function asks for.
            unsafe { with_avx2(source, rows.0, windows, first) };
        } else {
            pixel_by_pixel(source, rows.0, windows, first);
        }
        #[cfg(not(target_arch = "x86_64"))]
        pixel_by_pixel(source, rows.0, windows, first);
    }
    in_vectors(source, rows.1, windows, longest.next_multiple_of(LANES), rest);
    resized
}

/// Windows of up to `taps` pixels, a multiple of the lanes.
fn in_vectors(source: Pixels, rows: Range<usize>, windows: &[Window], taps: usize, resized: &mut [u8]) {
    if source.width < taps {
        let wider = widened(source, rows.clone(), taps);
        return in_vectors(Pixels { samples: &wider, width: taps }, 0..rows.len(), windows, taps, resized);
    }
    let windows = &Padded::new(windows, taps, source.width);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, rows: Range<usize>, windows: &Padded, resized: &mut [u8]) {
            horizontal_pass(source, rows, windows, resized)
        }
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { with_avx2(source, rows, windows, resized) };
    }
    horizontal_pass(source, rows, windows, resized)
}

/// The given rows, `width` wide, black at the right.
fn widened(source: Pixels, rows: Range<usize>, width: usize) -> Vec<u8> {
    let mut wider = vec![0; rows.len() * width * 3];
    let rows = &source.samples[rows.start * source.width * 3..rows.end * source.width * 3];
    for (from, to) in rows.chunks_exact(source.width * 3).zip(wider.chunks_exact_mut(width * 3)) {
        to[..from.len()].copy_from_slice(from);
    }
    wider
}

/// The given columns of `source`, with one row a window.
pub(super) fn vertical(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
            vertical_pass(source, columns, windows)
        }
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { with_avx2(source, columns, windows) };
    }
    vertical_pass(source, columns, windows)
}

/// Windows over the samples of a row: all of one length, with zeros where they had no weight.
struct Padded {
    /// The first sample of each.
    firsts: Vec<usize>,
    /// `[windows, taps]`; each weight thrice, for the three samples of its pixel.
    weights: Vec<i32>,
    /// Samples that each looks at.
    taps: usize,
}

impl Padded {
    /// Of `pixels` each, in rows of `width`; at the right edge the padding goes in front.
    fn new(windows: &[Window], pixels: usize, width: usize) -> Self {
        let taps = pixels * 3;
        let mut padded = Padded { firsts: Vec::new(), weights: vec![0; windows.len() * taps], taps };
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
fn horizontal_pass(source: Pixels, rows: Range<usize>, windows: &Padded, resized: &mut [u8]) {
    let (stride, side) = (source.width * 3, windows.firsts.len() * 3);
    let source = &source.samples[rows.start * stride..rows.end * stride];
    let mut from = source.chunks_exact(stride * ROWS);
    let mut to = resized.chunks_exact_mut(side * ROWS);
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        rows_through_windows::<ROWS>(from, to, windows);
    }
    for (from, to) in from.remainder().chunks_exact(stride).zip(to.into_remainder().chunks_exact_mut(side)) {
        rows_through_windows::<1>(from, to, windows);
    }
}

/// The same for windows of few pixels and rows in whole [`ROWS`], behind which another one follows.
#[inline(always)]
fn pixel_by_pixel(source: Pixels, rows: Range<usize>, windows: &Padded, resized: &mut [u8]) {
    let (stride, side) = (source.width * 3, windows.firsts.len() * 3);
    let from = rows.step_by(ROWS).map(|row| &source.samples[row * stride..]);
    for (from, to) in from.zip(resized.chunks_exact_mut(side * ROWS)) {
        for (index, &first) in windows.firsts.iter().enumerate() {
            let weights = &windows.weights[index * windows.taps..][..windows.taps];
            let rows: [&[u8]; ROWS] = std::array::from_fn(|row| &from[row * stride + first..][..windows.taps + 1]);
            // A pixel's three samples, and the one behind them, which never counts.
            let mut sums = [[HALF; 4]; ROWS];
            for (pixel, weights) in weights.as_chunks::<3>().0.iter().enumerate() {
                for (sums, row) in sums.iter_mut().zip(rows) {
                    let samples: [u8; 4] = *row[pixel * 3..].first_chunk().expect("the pixel and one sample more");
                    *sums = std::array::from_fn(|lane| sums[lane] + weights[0] * i32::from(samples[lane]));
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                to[row * side + index * 3..][..3].copy_from_slice(&sums.map(to_u8)[..3]);
            }
        }
    }
}

/// `N` rows at once.
#[inline(always)]
fn rows_through_windows<const N: usize>(from: &[u8], to: &mut [u8], windows: &Padded) {
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

/// For each row the sums of its samples by colour, weighted.
#[inline(always)]
fn dot<const N: usize>(rows: [&[u8]; N], weights: &[i32]) -> [[i32; 3]; N] {
    // Three vectors hold as many whole pixels as a vector has lanes, so a lane keeps its colour throughout.
    let (mut first, mut second, mut third) = ([[0; LANES]; N], [[0; LANES]; N], [[0; LANES]; N]);
    let (vectors, _) = weights.as_chunks::<LANES>();
    let (triples, _) = vectors.as_chunks::<3>();
    let mut at = 0;
    for triple in triples {
        for row in 0..N {
            let samples = &rows[row][at..][..3 * LANES];
            let ([one, two, three], _) = samples.as_chunks::<LANES>() else { unreachable!("three vectors were cut") };
            first[row] = multiply_add(first[row], &triple[0], one);
            second[row] = multiply_add(second[row], &triple[1], two);
            third[row] = multiply_add(third[row], &triple[2], three);
        }
        at += 3 * LANES;
    }
    std::array::from_fn(|row| by_colour([first[row], second[row], third[row]]))
}

/// The sums of every third lane, and one half.
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
fn vertical_pass(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let (stride, length) = (source.width * 3, columns.len() * 3);
    let mut resized = vec![0; windows.len() * length];
    for (window, to) in windows.iter().zip(resized.chunks_exact_mut(length)) {
        let from = &source.samples[window.first * stride + columns.start * 3..];
        let mut tiles = to.chunks_exact_mut(TILE);
        let mut at = 0;
        for tile in tiles.by_ref() {
            let mut sums = [HALF; TILE];
            for (row, &weight) in window.weights.iter().enumerate() {
                let samples: &[u8; TILE] = from[row * stride + at..].first_chunk().expect("inside the row");
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

    fn plain(source: &[u8], step: usize, first: usize, weights: &[i32]) -> u8 {
        let sum = weights
            .iter()
            .enumerate()
            .fold(HALF, |sum, (i, weight)| sum + weight * i32::from(source[first + i * step]));
        to_u8(sum)
    }

    /// Windows of every length, negative weights among them, that reach both edges.
    fn windows(size: usize, longest: usize) -> Vec<Window> {
        let window = |length: usize, first: usize| {
            let weight =
                |i: usize| (1 << PRECISION) / length as i32 + if i.is_multiple_of(2) { 70_001 } else { -90_007 };
            Window { first, weights: (0..length).map(weight).collect() }
        };
        (1..=longest).flat_map(|length| [window(length, 0), window(length, size - length)]).collect()
    }

    /// With the vectors of this processor, and with those that every one has.
    #[test]
    fn vectors_sum_as_a_plain_loop_does() {
        for (width, height) in [(1, 1), (5, 4), (8, 7), (30, 9), (64, 11), (77, 13)] {
            let samples: Vec<u8> = (0..width * height * 3).map(|i| (i * i * 31 % 257) as u8).collect();
            let source = Pixels { samples: &samples, width };
            let (columns, rows) = (windows(width, width.min(25)), windows(height, height.min(25)));

            let expected_of = |columns: &[Window]| {
                let mut expected = Vec::new();
                for y in 0..height {
                    for Window { first, weights } in columns {
                        expected.extend((0..3).map(|c| plain(&samples, 3, (y * width + first) * 3 + c, weights)));
                    }
                }
                expected
            };
            let expected = expected_of(&columns);
            assert!(horizontal(source, 0..height, &columns) == expected, "{width}x{height} across");
            if width.is_multiple_of(LANES) {
                let padded = Padded::new(&columns, width, width);
                let mut across = vec![0; expected.len()];
                horizontal_pass(source, 0..height, &padded, &mut across);
                assert!(across == expected, "{width}x{height} across, at least");
            }
            for longest in 1..=FEW.min(width) {
                let few = windows(width, longest);
                let expected = expected_of(&few);
                assert!(horizontal(source, 0..height, &few) == expected, "{width}x{height} across, of {longest}");
                let padded = Padded::new(&few, longest, width);
                let rows = (height - 1) / ROWS * ROWS;
                let mut across = vec![0; rows * few.len() * 3];
                pixel_by_pixel(source, 0..rows, &padded, &mut across);
                assert!(expected.starts_with(&across), "{width}x{height} across, of {longest}, at least");
            }

            let mut expected = Vec::new();
            for Window { first, weights } in &rows {
                let from = first * width * 3;
                expected.extend((0..width * 3).map(|x| plain(&samples, width * 3, from + x, weights)));
            }
            assert!(vertical(source, 0..width, &rows) == expected, "{width}x{height} down");
            assert!(vertical_pass(source, 0..width, &rows) == expected, "{width}x{height} down, at least");
        }
    }
}
