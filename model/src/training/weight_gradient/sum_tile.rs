//! A register tile of sums over pixels: some inputs, its rows, times a panel of output channels, its columns.

use crate::engine::cpu::blocked_shape::BLOCK;
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::microkernel::{unroll, with_rows};
use crate::engine::cpu::simd::{Kernel, Simd};

/// Offsets of the first pixel of a row of pixels.
#[derive(Clone, Copy)]
pub struct PixelRow {
    pub input: usize,
    pub gradient: usize,
}

/// Operands of a register tile. If they are in bf16, a value is a pair of bf16, and a pixel is a pair of pixels.
pub struct SumOperands<'a> {
    pub input: &'a [f32],
    /// Offset of the tile's first input from that of a row of pixels.
    pub input_start: usize,
    /// Distance from the inputs of a pixel to those of the next.
    pub input_step: usize,
    pub gradient: &'a [f32],
    /// Offset of the panel's first gradient from that of a row of pixels.
    pub gradient_start: usize,
    /// Distance from a block of output channels to the next.
    pub gradient_block_stride: usize,
    pub rows: &'a [PixelRow],
    /// Number of pixels in a row.
    pub width: usize,
    pub sums: SharedMutSlice<'a>,
    /// Offset of the tile's sums.
    pub at: usize,
    /// Whether the sums start at zero.
    pub is_first: bool,
}

/// Computes a tile of `rows` inputs by `columns` vectors of output channels. The operands are pairs of bf16 if
/// `BF16_PAIRS` is set.
#[inline(always)]
pub fn run_sum_tile<S: Simd, const BF16_PAIRS: bool>(simd: S, rows: usize, columns: usize, operands: SumOperands) {
    with_rows!(rows, ROWS => match columns {
        1 => simd.vectorize(Tile::<ROWS, 1, BF16_PAIRS>(operands)),
        2 => simd.vectorize(Tile::<ROWS, 2, BF16_PAIRS>(operands)),
        4 => simd.vectorize(Tile::<ROWS, 4, BF16_PAIRS>(operands)),
        columns => unreachable!("no register tile is {columns} vectors wide"),
    });
}

/// A register tile of `ROWS` inputs by `COLUMNS` vectors of output channels.
struct Tile<'a, const ROWS: usize, const COLUMNS: usize, const BF16_PAIRS: bool>(SumOperands<'a>);

impl<const ROWS: usize, const COLUMNS: usize, const BF16_PAIRS: bool> Kernel for Tile<'_, ROWS, COLUMNS, BF16_PAIRS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let narrow = COLUMNS < S::TILE_COLUMNS && COLUMNS * S::LANES == BLOCK;
        if ROWS > S::TILE_ROWS || (COLUMNS != S::TILE_COLUMNS && !narrow) || (BF16_PAIRS && !S::BF16_PAIRS) {
            unreachable!("the instruction set has no register tile of {ROWS}x{COLUMNS}");
        }
        assert!(!BF16_PAIRS || simd.has_bf16_pairs());
        let SumOperands { input, input_start, input_step, gradient, gradient_start, rows, width, sums: target, .. } =
            self.0;
        let column_offset = |column: usize| {
            let channel = column * S::LANES;
            channel / BLOCK * self.0.gradient_block_stride + channel % BLOCK
        };
        assert!(self.0.at + ROWS * COLUMNS * S::LANES <= target.len());
        let mut sums = [[simd.splat(0.0); COLUMNS]; ROWS];
        let position = |row: usize, column: usize| self.0.at + (row * COLUMNS + column) * S::LANES;
        if !self.0.is_first {
            unroll!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
                unroll!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                    // SAFETY: the assertion above checks that the tile lies inside the sums, which only this task uses.
                    sums[ROW][COLUMN] = unsafe { simd.load(target.as_mut_ptr().add(position(ROW, COLUMN))) };
                });
            });
        }
        for row in rows {
            let (first_input, first_gradient) = (input_start + row.input, gradient_start + row.gradient);
            assert!(first_input + (width - 1) * input_step + ROWS <= input.len());
            assert!(first_gradient + column_offset(COLUMNS - 1) + (width - 1) * BLOCK + S::LANES <= gradient.len());
            for x in 0..width {
                // SAFETY: the assertions above check that the inputs and the gradients of all pixels lie inside their
                // slices, and that the processor supports pairs of bf16 if `BF16_PAIRS` is set.
                unsafe {
                    let inputs = input.as_ptr().add(first_input + x * input_step);
                    let gradients = gradient.as_ptr().add(first_gradient + x * BLOCK);
                    let mut vectors = [simd.splat(0.0); COLUMNS];
                    for (column, vector) in vectors.iter_mut().enumerate() {
                        *vector = simd.load(gradients.add(column_offset(column)));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let value = simd.splat(*inputs.add(row));
                        for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                            *sum = if BF16_PAIRS {
                                simd.bf16_multiply_add(value, vector, *sum)
                            } else {
                                simd.multiply_add(value, vector, *sum)
                            };
                        }
                    }
                }
            }
        }
        unroll!(ROW in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] => if ROW < ROWS {
            unroll!(COLUMN in [0 1 2 3] => if COLUMN < COLUMNS {
                // SAFETY: as above.
                unsafe { simd.write(target, position(ROW, COLUMN), sums[ROW][COLUMN]) };
            });
        });
    }
}
