//! The one inner loop: a tile of sums, `ROWS` output pixels by `COLUMNS` vectors of output channels, kept in registers
//! while all inputs and weights that belong to it pass by.
//!
//! Whatever the convolution, the inputs of a pixel are a list of *runs*, stretches of neighbouring values: 16 channels of a
//! tap, or a row of taps times three colours in the stem. The pixels of a tile lie `STEP` values apart, so the address of
//! each input is the run's plus a constant. Sums are always added up in the order of the runs, whatever the tile's shape,
//! so a result depends neither on how the work was cut nor on the batch around it.

use super::blocked::{BLOCK, Blocked};
use super::buffer::Target;
use super::simd::{Kernel, Simd};
use super::unroll::each;
use std::ops::Range;

/// A tile's sums. `RUN` values a run, each of them a pair of bf16 if there are `PAIRS`.
pub struct Tile<
    'a,
    F,
    const ROWS: usize,
    const COLUMNS: usize,
    const STEP: usize,
    const RUN: usize,
    const PAIRS: bool = false,
> {
    pub operands: Operands<'a>,
    pub finish: F,
}

/// What passes by a tile.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub input: &'a [f32],
    /// Where the first pixel's inputs begin, to which runs are relative.
    pub origin: usize,
    pub runs: &'a [usize],
    /// `[runs, RUN, COLUMNS * LANES]`
    pub weights: &'a [f32],
    pub ahead: Ahead,
}

/// What is asked for while a tile is computed, so that it is near when its turn comes: a part of the weights that follow
/// this tile's in memory. They are read once a run and come from far away.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// Where the part begins, in values from this tile's first weight.
    start: usize,
    /// Values for each row of weights.
    step: usize,
}

impl Ahead {
    /// The `part`-th of `parts` of the weights behind `length` ones, in rows of `panel`.
    #[inline(always)]
    pub fn new(length: usize, panel: usize, part: usize, parts: usize) -> Self {
        let step = panel.div_ceil(parts);
        Ahead { start: length + (length / panel * step) * part, step }
    }
}

/// The `index`-th of `pieces` of about the same length.
#[inline(always)]
pub fn piece(length: usize, pieces: usize, index: usize) -> Range<usize> {
    length * index / pieces..length * (index + 1) / pieces
}

/// What becomes of the sums.
pub trait Finish {
    fn finish<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]);
}

impl<F: Finish, const ROWS: usize, const COLUMNS: usize, const STEP: usize, const RUN: usize, const PAIRS: bool> Kernel
    for Tile<'_, F, ROWS, COLUMNS, STEP, RUN, PAIRS>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // What no instruction set asks for is not compiled: tiles narrower than the registers allow are one block wide.
        let narrow = COLUMNS < S::COLUMNS && COLUMNS * S::LANES == BLOCK;
        if ROWS > S::ROWS || (COLUMNS != S::COLUMNS && !narrow) || (PAIRS && !S::PAIRS) {
            unreachable!("tiles of {ROWS}x{COLUMNS}");
        }
        assert!(!PAIRS || simd.has_pairs());
        let Operands { input, origin, runs, weights, ahead } = self.operands;
        let panel = COLUMNS * S::LANES;
        assert!(weights.len() >= runs.len() * RUN * panel);
        let mut sums = [[simd.splat(0.0); COLUMNS]; ROWS];
        let mut weights = weights.as_ptr();
        let mut next = weights.wrapping_add(ahead.start);
        for &run in runs {
            let first = origin + run;
            assert!(first + (ROWS - 1) * STEP + RUN <= input.len());
            for k in 0..RUN {
                // SAFETY: weights and inputs are inside, as just checked: rows of `panel` weights, and `RUN` values from
                // `first` on for each of `ROWS` pixels. Where there are pairs, the processor has them.
                unsafe {
                    let inputs = input.as_ptr().add(first + k);
                    let mut row = [simd.splat(0.0); COLUMNS];
                    for (column, row) in row.iter_mut().enumerate() {
                        *row = simd.load(weights.add(column * S::LANES));
                    }
                    for (pixel, sums) in sums.iter_mut().enumerate() {
                        let value = simd.splat(*inputs.add(pixel * STEP));
                        for (sum, &weight) in sums.iter_mut().zip(&row) {
                            *sum = if PAIRS {
                                simd.multiply_add_pairs(value, weight, *sum)
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
                next = next.wrapping_add(ahead.step);
            }
        }
        self.finish.finish(simd, sums);
    }
}

/// Keeps the sums as they are: `[ROWS, COLUMNS * LANES]` at a place.
pub struct Store<'a> {
    pub target: Target<'a>,
    pub at: usize,
}

impl Finish for Store<'_> {
    #[inline(always)]
    fn finish<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]) {
        each!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
            each!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                let at = self.at + (ROW * COLUMNS + COLUMN) * S::LANES;
                // SAFETY: the target is scratch memory of this thread, with room for the tile.
                unsafe { simd.write(self.target, at, sums[ROW][COLUMN]) };
            });
        });
    }
}

/// Adds bias and residual, applies the ReLU, and writes a value: all that stands behind a convolution.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    /// By output channel.
    pub bias: &'a [f32],
    pub residual: Option<(&'a [f32], &'a Blocked)>,
    pub relu: bool,
    pub output: Target<'a>,
    pub shape: &'a Blocked,
}

impl Epilogue<'_> {
    /// What the writes of kernels rely on: everything is there, whole, for `channels` output channels.
    pub fn check(&self, channels: usize) {
        assert!(self.bias.len() >= channels && self.shape.blocks() * BLOCK >= channels);
        assert_eq!(self.output.len(), self.shape.len());
        if let Some((values, shape)) = self.residual {
            assert_eq!(values.len(), shape.len());
            let [ours, theirs] = [self.shape, shape].map(|shape| Blocked { border: 0, ..*shape });
            assert_eq!(ours, theirs);
        }
    }

    /// Writes a vector of channels of the pixel at offset `at` in a plane (`residual_at` in the residual's).
    ///
    /// # Safety
    /// The pixel is inside and nobody else writes it.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, simd: S, sum: S::Vector, channel: usize, at: usize, residual_at: usize) {
        let (block, lane) = (channel / BLOCK, channel % BLOCK);
        // SAFETY: `bias` covers all panels; the rest is the caller's promise.
        unsafe {
            let mut sum = simd.add(sum, simd.read(self.bias, channel));
            if let Some((residual, shape)) = self.residual {
                sum = simd.add(sum, simd.read(residual, block * shape.plane() + residual_at + lane));
            }
            if self.relu {
                // In this order a NaN stays one, and is found among the logits.
                sum = simd.max(simd.splat(0.0), sum);
            }
            simd.write(self.output, block * self.shape.plane() + at + lane, sum);
        }
    }
}

/// [`Epilogue`] for a tile of pixels that are neighbours in memory.
pub struct Pixels<'a> {
    pub epilogue: Epilogue<'a>,
    /// The tile's first output channel.
    pub channel: usize,
    /// Where its first pixel lies in a plane, and in the residual's.
    pub at: usize,
    pub residual_at: usize,
}

impl Finish for Pixels<'_> {
    #[inline(always)]
    fn finish<S: Simd, const ROWS: usize, const COLUMNS: usize>(self, simd: S, sums: [[S::Vector; COLUMNS]; ROWS]) {
        let Pixels { epilogue, channel, at, residual_at } = self;
        each!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
            each!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                let (at, residual_at) = (at + ROW * BLOCK, residual_at + ROW * BLOCK);
                // SAFETY: tiles lie within a line, as the schedule cuts them, and cover each pixel and channel once.
                unsafe { epilogue.write(simd, sums[ROW][COLUMN], channel + COLUMN * S::LANES, at, residual_at) };
            });
        });
    }
}

/// Calls `$body` with `$rows` as the constant `$constant`.
macro_rules! with_rows {
    ($rows:expr, $constant:ident => $body:expr) => {
        $crate::engine::cpu::tile::with_rows!(@ $rows, $constant => $body; 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $rows:expr, $constant:ident => $body:expr; $($value:literal)*) => {
        match $rows {
            $($value => {
                const $constant: usize = $value;
                $body
            })*
            rows => unreachable!("no tile has {rows} rows"),
        }
    };
}
pub(crate) use with_rows;
