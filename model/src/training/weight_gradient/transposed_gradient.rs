//! Gradient of a layer's output in bf16, transposed to rows of pixels: tiles of 16 channels by 32 pixels,
//! `[blocks, groups, height, tiles, 16 channels, 16 pairs]`.
//!
//! A row of pixels of a group of images is one long row, `[width, lines]`, of pairs of images. Its last tile ends with zeros.

use super::super::value::{Execution, Value};
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd, TILE, TILE_PAIRS};

/// Conversion of a gradient.
pub struct TransposedGradient {
    shape: BlockedShape,
    /// Number of pairs of images in a group.
    pairs: usize,
}

/// Number of pairs in a tile.
const TILE_LEN: usize = TILE * TILE_PAIRS;

impl TransposedGradient {
    /// Returns the conversion of a gradient in groups of `pairs` pairs of images.
    pub fn new(gradient: &BlockedShape, pairs: usize) -> Self {
        TransposedGradient { shape: *gradient, pairs }
    }

    /// Returns the number of blocks of channels.
    pub fn blocks(&self) -> usize {
        self.shape.channels.div_ceil(BLOCK)
    }

    /// Returns the number of rows of pixels of all groups.
    pub fn rows(&self) -> usize {
        self.shape.batch.div_ceil(2 * self.pairs) * self.shape.height
    }

    /// Returns the number of tiles of a row of pixels.
    pub fn tiles_per_row(&self) -> usize {
        (self.shape.width * self.pairs).div_ceil(TILE_PAIRS)
    }

    /// Returns the offset of a tile in a block, in pairs.
    pub fn tile_offset(&self, row: usize, tile: usize) -> usize {
        (row * self.tiles_per_row() + tile) * TILE_LEN
    }

    /// Returns the offset of a block, in pairs.
    pub fn block_offset(&self, block: usize) -> usize {
        block * self.rows() * self.tiles_per_row() * TILE_LEN
    }

    /// Returns the number of pairs in memory.
    pub fn len(&self) -> usize {
        self.block_offset(self.blocks())
    }

    /// Rounds and transposes a gradient.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn round(&self, gradient: Value, transposed: &mut [f32], execution: Execution) {
        assert!(execution.set.has_bf16_pairs() && *gradient.shape == self.shape && transposed.len() == self.len());
        let target = SharedMutSlice::new(transposed);
        let rows = self.rows();
        execution.threads.for_each(self.blocks() * rows, |task| {
            let (block, row) = (task / rows, task % rows);
            execution.set.run(RoundRow { layout: self, values: gradient.values, target, block, row });
        });
    }
}

/// Rounds and transposes a row of pixels of a block.
struct RoundRow<'a> {
    layout: &'a TransposedGradient,
    values: &'a [f32],
    target: SharedMutSlice<'a>,
    block: usize,
    row: usize,
}

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let RoundRow { layout, values, target, block, row } = self;
        let TransposedGradient { shape, pairs } = layout;
        let (first_image, y) = (row / shape.height * 2 * pairs, row % shape.height);
        let mut tile = Tile([0.0; TILE_LEN]);
        for index in 0..layout.tiles_per_row() {
            for (line, pair) in (index * TILE_PAIRS..(index + 1) * TILE_PAIRS).enumerate() {
                let (x, image) = (pair / pairs, first_image + pair % pairs * 2);
                let offset = |image: usize| {
                    let is_valid = x < shape.width && image < shape.batch;
                    is_valid
                        .then(|| block * shape.block_stride() + shape.offset(image, y + shape.border, x + shape.border))
                };
                let sources = [image, image + 1].map(offset);
                let tile = SharedMutSlice::new(&mut tile.0);
                for lane in (0..BLOCK).step_by(S::LANES) {
                    // SAFETY: `TransposedGradient::round` checks that the processor supports pairs of bf16, and that the
                    // gradient has this shape.
                    unsafe {
                        let read = |source: Option<usize>| match source {
                            Some(source) => simd.read(values, source + lane),
                            None => simd.splat(0.0),
                        };
                        let pairs = simd.zip_to_bf16(read(sources[0]), read(sources[1]));
                        simd.write(tile, line * TILE_PAIRS + lane, pairs);
                    }
                }
            }
            simd.transpose(&mut tile.0);
            let at = layout.block_offset(block) + layout.tile_offset(row, index);
            for lane in (0..TILE_LEN).step_by(S::LANES) {
                // SAFETY: `TransposedGradient::round` checks the length of the target. Each task writes its own tiles.
                unsafe { simd.write(target, at + lane, simd.read(&tile.0, lane)) };
            }
        }
    }
}

/// A tile of pairs.
#[repr(align(64))]
struct Tile([f32; TILE_LEN]);
