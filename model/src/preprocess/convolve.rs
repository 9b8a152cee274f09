//! The two passes of a resize over u8 RGB, in Pillow's fixed point: integers, so neither the order of summing nor the
//! width of the vectors can change a value.
//!
//! Written in plain loops over arrays of a fixed number of lanes, which the compiler turns into vectors: of 128 bits in
//! wasm and on ARM, and of 256 where an x86-64 processor has AVX2 (its baseline has no vector product of 32 bits).

use std::ops::Range;

use super::windows::{PRECISION, Window};

/// One half in the weights' fixed point, so that shifting rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// Rows that share one reading of the weights.
const ROWS: usize = 4;

/// Source pixels are taken by this many, so that their samples fill whole vectors.
const GRAIN: usize = 8;

/// u8 RGB of `width`; the last row is whole.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub(super) samples: &'a [u8],
    pub(super) width: usize,
}

/// The given rows of `source`, with one pixel a window.
pub(super) fn horizontal(source: Pixels, rows: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let windows = &Padded::new(windows, source.width);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, rows: Range<usize>, windows: &Padded) -> Vec<u8> {
            horizontal_pass::<8>(source, rows, windows)
        }
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { with_avx2(source, rows, windows) };
    }
    horizontal_pass::<4>(source, rows, windows)
}

/// The given columns of `source`, with one row a window.
pub(super) fn vertical(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn with_avx2(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
            vertical_pass::<64>(source, columns, windows)
        }
        // SAFETY: the processor has AVX2, which is all that the function asks for.
        return unsafe { with_avx2(source, columns, windows) };
    }
    vertical_pass::<32>(source, columns, windows)
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
    fn new(windows: &[Window], width: usize) -> Self {
        let longest = windows.iter().map(|window| window.weights.len()).max().unwrap_or(0);
        let pixels = longest.next_multiple_of(GRAIN).min(width);
        let mut padded = Padded { firsts: Vec::with_capacity(windows.len()), weights: Vec::new(), taps: pixels * 3 };
        for window in windows {
            // At the right edge the padding goes in front.
            let first = window.first.min(width - pixels);
            padded.firsts.push(first * 3);
            let start = padded.weights.len() + (window.first - first) * 3;
            padded.weights.resize(padded.weights.len() + padded.taps, 0);
            for (triple, &weight) in padded.weights[start..].chunks_exact_mut(3).zip(&window.weights) {
                triple.fill(weight);
            }
        }
        padded
    }
}

/// `LANES` is a multiple of three.
#[inline(always)]
fn horizontal_pass<const LANES: usize>(source: Pixels, rows: Range<usize>, windows: &Padded) -> Vec<u8> {
    let (stride, side) = (source.width * 3, windows.firsts.len() * 3);
    let mut resized = vec![0; rows.len() * side];
    let source = &source.samples[rows.start * stride..rows.end * stride];
    let mut from = source.chunks_exact(stride * ROWS);
    let mut to = resized.chunks_exact_mut(side * ROWS);
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        rows_through_windows::<LANES, ROWS>(from, to, windows);
    }
    for (from, to) in from.remainder().chunks_exact(stride).zip(to.into_remainder().chunks_exact_mut(side)) {
        rows_through_windows::<LANES, 1>(from, to, windows);
    }
    resized
}

/// `N` rows at once.
#[inline(always)]
fn rows_through_windows<const LANES: usize, const N: usize>(from: &[u8], to: &mut [u8], windows: &Padded) {
    let (stride, side) = (from.len() / N, to.len() / N);
    for (index, &first) in windows.firsts.iter().enumerate() {
        let weights = &windows.weights[index * windows.taps..][..windows.taps];
        let rows: [&[u8]; N] = std::array::from_fn(|row| &from[row * stride + first..][..windows.taps]);
        let sums = dot::<LANES, N>(rows, weights);
        for (row, sums) in sums.into_iter().enumerate() {
            to[row * side + index * 3..][..3].copy_from_slice(&sums.map(to_u8));
        }
    }
}

/// For each row the sums of its samples by colour, weighted.
#[inline(always)]
fn dot<const LANES: usize, const N: usize>(rows: [&[u8]; N], weights: &[i32]) -> [[i32; 3]; N] {
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
    std::array::from_fn(|row| {
        let mut sums = [HALF; 3];
        for (lane, sum) in [first[row], second[row], third[row]].as_flattened().iter().enumerate() {
            sums[lane % 3] += sum;
        }
        for (weights, pixel) in weights[at..].as_chunks::<3>().0.iter().zip(rows[row][at..].as_chunks::<3>().0) {
            sums = multiply_add(sums, weights, pixel);
        }
        sums
    })
}

#[inline(always)]
fn multiply_add<const LANES: usize>(sums: [i32; LANES], weights: &[i32; LANES], samples: &[u8; LANES]) -> [i32; LANES] {
    std::array::from_fn(|lane| sums[lane] + weights[lane] * i32::from(samples[lane]))
}

#[inline(always)]
fn vertical_pass<const LANES: usize>(source: Pixels, columns: Range<usize>, windows: &[Window]) -> Vec<u8> {
    let (stride, length) = (source.width * 3, columns.len() * 3);
    let mut resized = vec![0; windows.len() * length];
    for (window, to) in windows.iter().zip(resized.chunks_exact_mut(length)) {
        let from = &source.samples[window.first * stride + columns.start * 3..];
        let mut tiles = to.chunks_exact_mut(LANES);
        let mut at = 0;
        for tile in tiles.by_ref() {
            let mut sums = [HALF; LANES];
            for (row, &weight) in window.weights.iter().enumerate() {
                let samples: &[u8; LANES] = from[row * stride + at..].first_chunk().expect("inside the row");
                for lane in 0..LANES {
                    sums[lane] += weight * i32::from(samples[lane]);
                }
            }
            for lane in 0..LANES {
                tile[lane] = to_u8(sums[lane]);
            }
            at += LANES;
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
