//! Splits a convolution into products of tiles and tasks, for values of one shape.

use super::super::blocked_shape::BlockedShape;
use super::super::buffer::F32_BYTES;
use super::super::convolution_output::PixelGrid;
use super::super::filter::Filter;
use super::super::simd::{TILE, TILE_PAIRS, TileStep, TileSteps};
use super::lines::{LineContent, Lines, lines_per_group};
use super::weights::{AmxWeights, PANEL};
use std::collections::BTreeSet;

/// Number of bytes of a core's cache that the inputs of a task may take.
const CACHE_BYTES: usize = 512 << 10;
/// Number of tasks per thread, so that the last thread to finish has little more work than the others.
const TASKS_PER_THREAD: usize = 4;
/// Number of output pixels that are computed together.
pub const PIXELS: usize = 2 * TILE;

/// The division of a convolution into products and tasks.
pub struct AmxSchedule {
    pub(super) lines: Lines,
    pub(super) steps: TileSteps,
    /// Offset of the inputs of the first row of output pixels, and distance to those of the next row, in pairs.
    pub(super) first_row: usize,
    pub(super) row_stride: usize,
    /// Number of images in a group.
    pub(super) group: usize,
    /// Number of rows of output pixels of all groups.
    pub(super) rows: usize,
    /// Number of output pixels in a row of a group.
    pub(super) row_len: usize,
    pub(super) products_per_row: usize,
    /// Number of parts into which the products are split. Each task computes one part of the products for one part of
    /// the panels.
    pub(super) product_parts: usize,
    /// Number of parts into which the panels are split.
    pub(super) panel_parts: usize,
}

impl AmxSchedule {
    /// Builds the schedule for the pixels of `grid`.
    pub fn new(weights: &AmxWeights, input: &BlockedShape, grid: &PixelGrid, threads: usize) -> Self {
        let Filter { stride, padding, ref elements, .. } = weights.layout.filter;
        let group = lines_per_group(grid.width, input.batch, PIXELS);
        let lines = Lines::new(input, LineContent::Channels, stride, group);
        let inset = input.border - padding;
        let offsets = elements.iter().flat_map(|element| {
            let [y, x] = element.offset;
            let offset = y * lines.row_stride() + lines.column_offset(inset + x);
            let plane_stride = lines.plane_stride();
            (0..lines.planes()).map(move |plane| plane * plane_stride + offset)
        });
        let steps =
            offsets.enumerate().map(|(step, offset)| TileStep::new(offset, step * TILE_PAIRS * PANEL)).collect();
        let row_len = grid.width * group;
        let products_per_row = row_len.div_ceil(PIXELS);
        let rows = lines.groups() * grid.height;
        let products = rows * products_per_row;

        let min_tasks = TASKS_PER_THREAD * threads;
        let input_bytes = rows * row_len * stride * stride * lines.planes() * TILE_PAIRS * F32_BYTES;
        let mut product_parts = input_bytes.div_ceil(CACHE_BYTES).min(products);
        let mut panel_parts = 1;
        if weights.packed.len() * F32_BYTES > CACHE_BYTES {
            panel_parts = min_tasks.div_ceil(product_parts.max(1)).min(weights.layout.panels());
        }
        product_parts = product_parts.max(min_tasks.div_ceil(panel_parts).min(products));
        AmxSchedule {
            steps: TileSteps::new(steps),
            first_row: inset * lines.row_stride(),
            row_stride: stride * lines.row_stride(),
            rows,
            group,
            row_len,
            products_per_row,
            product_parts,
            panel_parts,
            lines,
        }
    }

    /// Returns the numbers of output pixels that are computed together.
    pub fn tile_heights(&self) -> BTreeSet<usize> {
        let last = self.row_len - (self.products_per_row - 1) * PIXELS;
        let full = (self.products_per_row > 1).then_some(PIXELS);
        full.into_iter().chain([last]).collect()
    }

    /// Returns the number of f32 values of temporary memory that all threads share.
    pub fn shared_len(&self) -> usize {
        self.lines.len()
    }
}
