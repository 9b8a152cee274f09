//! The inner loop of all convolutions: a register tile of sums, `ROWS` output pixels by `COLUMNS` vectors of output
//! channels, stays in registers while the inputs and weights that contribute to it are read.
//!
//! The inputs of an output pixel are a list of *runs*, which are stretches of adjacent values: 16 channels of one input
//! pixel, or in the stem one row of the filter window with three colours per pixel. The inputs of adjacent output
//! pixels lie `PIXEL_STRIDE` values apart, so the address of each input is that of its run plus a constant. Products
//! are always added in the order of the runs, whatever the shape of the tile, so results depend neither on how work is
//! split nor on the rest of the batch.

use super::blocked_shape::BLOCK;
use super::buffer::SharedMutSlice;
use super::convolution_output::ConvolutionOutput;
use super::simd::{Kernel, Simd};
use std::ops::Range;

/// Repeats `$body` with each of the values as the constant `$index`. Loops over arrays of vectors are written this way,
/// because the compiler keeps the vectors in registers only if their indices are constants.
macro_rules! unroll {
    ($index:ident in [$($value:literal)*] => $body:expr) => {
        $({
            const $index: usize = $value;
            $body
        })*
    };
}
pub(crate) use unroll;

/// Computes the sums of one register tile. A run has `RUN_LENGTH` values; each is a pair of bf16 values if `BF16_PAIRS`
/// is set.
pub struct Microkernel<
    'a,
    F,
    const ROWS: usize,
    const COLUMNS: usize,
    const PIXEL_STRIDE: usize,
    const RUN_LENGTH: usize,
    const BF16_PAIRS: bool = false,
> {
    pub operands: Operands<'a>,
    pub epilogue: F,
}

/// Inputs and weights of a register tile.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub input: &'a [f32],
    /// Offset of the inputs of the first pixel. Runs are relative to it.
    pub origin: usize,
    /// Offset of each run.
    pub runs: &'a [usize],
    /// Packed weights, `[runs, RUN_LENGTH, COLUMNS * LANES]`.
    pub weights: &'a [f32],
    pub prefetch: WeightPrefetch,
}

/// Part of the following weights that is prefetched while a tile is computed. Each weight is read once per run of the
/// network, so the caches do not hold it yet.
#[derive(Clone, Copy)]
pub struct WeightPrefetch {
    /// Offset of the part from the first weight of the tile, in values.
    start: usize,
    /// Number of values to prefetch per row of weights.
    values_per_row: usize,
}

impl WeightPrefetch {
    /// Selects part number `part` of `parts` of the weights that follow `length` weights, which are in rows of `panel`.
    #[inline(always)]
    pub fn new(length: usize, panel: usize, part: usize, parts: usize) -> Self {
        let values_per_row = panel.div_ceil(parts);
        WeightPrefetch { start: length + (length / panel * values_per_row) * part, values_per_row }
    }
}

/// Splits `0..length` into `parts` ranges of about the same length, and returns range number `index`.
#[inline(always)]
pub fn split_range(length: usize, parts: usize, index: usize) -> Range<usize> {
    length * index / parts..length * (index + 1) / parts
}

/// Consumes the sums of a register tile: stores or post-processes them.
pub trait Epilogue {
    /// Consumes the sums, `[output pixels][vectors of output channels]`.
    fn apply<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]);
}

impl<
    F: Epilogue,
    const ROWS: usize,
    const COLUMNS: usize,
    const PIXEL_STRIDE: usize,
    const RUN_LENGTH: usize,
    const BF16_PAIRS: bool,
> Kernel for Microkernel<'_, F, ROWS, COLUMNS, PIXEL_STRIDE, RUN_LENGTH, BF16_PAIRS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Tile shapes that an instruction set does not use are not compiled for it: tiles narrower than its registers
        // allow are one block wide.
        let narrow = COLUMNS < S::TILE_COLUMNS && COLUMNS * S::LANES == BLOCK;
        if ROWS > S::TILE_ROWS || (COLUMNS != S::TILE_COLUMNS && !narrow) || (BF16_PAIRS && !S::BF16_PAIRS) {
            unreachable!("the instruction set has no register tile of {ROWS}x{COLUMNS}");
        }
        assert!(!BF16_PAIRS || simd.has_bf16_pairs());
        let Operands { input, origin, runs, weights, prefetch } = self.operands;
        let panel = COLUMNS * S::LANES;
        assert!(weights.len() >= runs.len() * RUN_LENGTH * panel);
        let mut sums = [[simd.splat(0.0); COLUMNS]; ROWS];
        let mut weights = weights.as_ptr();
        let mut next = weights.wrapping_add(prefetch.start);
        for &run in runs {
            let first = origin + run;
            assert!(first + (ROWS - 1) * PIXEL_STRIDE + RUN_LENGTH <= input.len());
            for k in 0..RUN_LENGTH {
                // SAFETY: the assertions above check that `weights` holds a row of `panel` values for each step, and
                // that `input` holds `RUN_LENGTH` values from `first` on for each of `ROWS` pixels. If `BF16_PAIRS` is
                // set, the processor supports pairs of bf16.
                unsafe {
                    let inputs = input.as_ptr().add(first + k);
                    let mut row = [simd.splat(0.0); COLUMNS];
                    for (column, row) in row.iter_mut().enumerate() {
                        *row = simd.load(weights.add(column * S::LANES));
                    }
                    for (pixel, sums) in sums.iter_mut().enumerate() {
                        let value = simd.splat(*inputs.add(pixel * PIXEL_STRIDE));
                        for (sum, &weight) in sums.iter_mut().zip(&row) {
                            *sum = if BF16_PAIRS {
                                simd.bf16_multiply_add(value, weight, *sum)
                            } else {
                                simd.multiply_add(value, weight, *sum)
                            };
                        }
                    }
                    weights = weights.add(panel);
                }
                for line in 0..panel.div_ceil(BLOCK) {
                    simd.prefetch(next.wrapping_add(line * BLOCK));
                }
                next = next.wrapping_add(prefetch.values_per_row);
            }
        }
        self.epilogue.apply(simd, sums);
    }
}

/// Stores the sums unchanged, as `[ROWS, COLUMNS * LANES]` at offset `at`.
pub struct StoreSums<'a> {
    pub target: SharedMutSlice<'a>,
    pub at: usize,
}

impl Epilogue for StoreSums<'_> {
    #[inline(always)]
    fn apply<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]) {
        unroll!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
            unroll!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                let at = self.at + (ROW * COLUMNS + COLUMN) * S::LANES;
                // SAFETY: the target is scratch memory that only this thread uses, with room for the tile at `at`.
                unsafe { simd.write(self.target, at, sums[ROW][COLUMN]) };
            });
        });
    }
}

/// Writes the sums to the output of a convolution, for adjacent pixels of a row of its grid.
pub struct WritePixels<'a> {
    pub output: ConvolutionOutput<'a>,
    /// First output channel of the tile.
    pub channel: usize,
    /// Offset of the first pixel in a block of the output.
    pub at: usize,
    /// Offset of the first pixel in a block of the residual.
    pub residual_at: usize,
}

impl Epilogue for WritePixels<'_> {
    #[inline(always)]
    fn apply<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]) {
        let WritePixels { output, channel, at, residual_at } = self;
        unroll!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
            unroll!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                let distance = ROW * output.grid.step * BLOCK;
                let (at, residual_at) = (at + distance, residual_at + distance);
                // SAFETY: the schedule splits rows into tiles that cover each pixel and channel of the output once.
                unsafe { output.write(simd, sums[ROW][COLUMN], channel + COLUMN * S::LANES, at, residual_at) };
            });
        });
    }
}

/// Evaluates `$body` with the value of `$rows` as the constant `$constant`.
macro_rules! with_rows {
    ($rows:expr, $constant:ident => $body:expr) => {
        $crate::engine::cpu::microkernel::with_rows!(@ $rows, $constant => $body; 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $rows:expr, $constant:ident => $body:expr; $($value:literal)*) => {
        match $rows {
            $($value => {
                const $constant: usize = $value;
                $body
            })*
            rows => unreachable!("no register tile has {rows} rows"),
        }
    };
}
pub(crate) use with_rows;
