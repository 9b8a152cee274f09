//! Splits a direct convolution into register tiles and tasks, for values of one shape.

use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::F32_BYTES;
use super::super::convolution_output::PixelGrid;
use super::super::filter::Filter;
use super::super::microkernel::split_range;
use super::super::padded_image::{COLOURS, PaddedImage};
use super::super::simd::InstructionSet;
use super::weights::{DirectWeights, InputFormat};
use std::collections::BTreeSet;

/// Number of bytes of a core's cache that the inputs or the weights of a task may take.
const CACHE_BYTES: usize = 256 << 10;
/// Number of tasks per thread, so that the last thread to finish has little more work than the others.
const TASKS_PER_THREAD: usize = 4;

/// The division of a direct convolution into tiles and tasks. Offsets and distances are in units of four bytes.
pub struct DirectSchedule {
    /// Offset of each run from the first input of a pixel.
    pub(super) runs: Vec<usize>,
    pub(super) rows: PixelRows,
    pub(super) tiles_per_row: usize,
    /// Number of parts into which the tiles are split. Each task computes one part of the tiles for one part of the
    /// panels.
    pub(super) tile_parts: usize,
    /// Number of parts into which the panels are split.
    pub(super) panel_parts: usize,
    /// Distance from a block of input channels to the next.
    pub(super) block_stride: usize,
}

/// Rows of pixels that tiles do not cross, since the inputs of adjacent pixels in a tile are equally far apart.
pub(super) struct PixelRows {
    /// Number of rows in the batch.
    pub count: usize,
    /// Number of output pixels in a row.
    pub length: usize,
    /// Number of rows in an image.
    pub per_image: usize,
    /// Offset of the inputs of the first row.
    pub start: usize,
    /// Distance between the inputs of two adjacent images.
    pub image_stride: usize,
    /// Distance between the inputs of two adjacent rows.
    pub row_stride: usize,
}

impl DirectSchedule {
    /// Builds the schedule for an input in blocks of channels. The convolution computes the pixels of `grid`.
    pub fn new(
        weights: &DirectWeights,
        input: &BlockedShape,
        output: &BlockedShape,
        grid: &PixelGrid,
        residual: Option<&BlockedShape>,
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let Filter { stride, padding, ref elements, .. } = weights.layout.filter;
        // Exact, because all offsets are multiples of a block.
        let words = |values: usize| values / weights.values_per_word();
        let inset = input.border - padding;
        let blocks = weights.layout.blocks;
        let runs = elements.iter().flat_map(|element| (0..blocks).map(move |block| (block, element.offset)));
        let runs = runs
            .map(|(block, [y, x])| words(block * input.block_stride() + y * input.row_stride() + x * BLOCK))
            .collect();
        let mut borders = [Some(input), Some(output), residual].into_iter().flatten().map(|shape| shape.border);
        let is_pointwise = elements.len() == 1 && stride == 1 && grid.step == 1;
        let rows = if is_pointwise && borders.all(|border| border == 0) {
            // All pixels of the batch are adjacent in memory.
            PixelRows { count: 1, length: output.pixels(), per_image: 1, start: 0, image_stride: 0, row_stride: 0 }
        } else {
            PixelRows {
                count: output.batch * grid.height,
                length: grid.width,
                per_image: grid.height,
                start: words(input.offset(0, inset, inset)),
                image_stride: words(input.image_stride()),
                row_stride: words(stride * input.row_stride()),
            }
        };
        let pixel_bytes = words(blocks * BLOCK) * stride * stride * F32_BYTES;
        DirectSchedule::split(weights, runs, rows, words(input.block_stride()), pixel_bytes, set, threads)
    }

    /// Builds the schedule for the stem, whose input is an image.
    pub fn for_image(
        weights: &DirectWeights,
        input: &PaddedImage,
        output: &BlockedShape,
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let Filter { stride, ref elements, .. } = weights.layout.filter;
        let kernel = elements.len().isqrt();
        let runs = (0..kernel).map(|y| y * input.row_stride()).collect();
        let rows = PixelRows {
            count: output.batch * output.height,
            length: output.width,
            per_image: output.height,
            start: 0,
            image_stride: input.image_stride(),
            row_stride: stride * input.row_stride(),
        };
        let pixel_bytes = COLOURS * stride * stride * F32_BYTES;
        DirectSchedule::split(weights, runs, rows, 0, pixel_bytes, set, threads)
    }

    /// Chooses the numbers of tiles and tasks. `pixel_bytes` is the number of bytes of input per pixel of the output.
    fn split(
        weights: &DirectWeights,
        runs: Vec<usize>,
        rows: PixelRows,
        block_stride: usize,
        pixel_bytes: usize,
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let tiles_per_row = rows.length.div_ceil(set.tile_rows());
        let tiles = rows.count * tiles_per_row;
        let min_tasks = TASKS_PER_THREAD * threads;
        // The inputs of a task stay in the cache while one panel of weights after the other is read.
        let mut tile_parts = (rows.count * rows.length * pixel_bytes).div_ceil(CACHE_BYTES).min(tiles);
        let mut panel_parts = 1;
        if weights.packed.len() * F32_BYTES > CACHE_BYTES {
            panel_parts = min_tasks.div_ceil(tile_parts.max(1)).min(weights.panels());
        }
        tile_parts = tile_parts.max(min_tasks.div_ceil(panel_parts).min(tiles));
        DirectSchedule { runs, rows, tiles_per_row, tile_parts, panel_parts, block_stride }
    }

    /// Returns the number of f32 values of temporary memory that all threads share while an input of this shape is
    /// convolved.
    pub fn shared_len(weights: &DirectWeights, input: &BlockedShape) -> usize {
        match weights.input_format {
            InputFormat::Blocked | InputFormat::Rgb => 0,
            InputFormat::Bf16Pairs => input.len() / weights.values_per_word(),
        }
    }

    /// Returns the heights of all register tiles, in output pixels.
    pub fn tile_heights(&self) -> BTreeSet<usize> {
        (0..self.tiles_per_row).map(|part| split_range(self.rows.length, self.tiles_per_row, part).len()).collect()
    }
}
