//! Splits a convolution into products of tiles and tasks, for values of one shape.

use super::super::blocked_shape::BlockedShape;
use super::super::buffer::F32_BYTES;
use super::super::convolution_output::PixelGrid;
use super::super::filter::Filter;
use super::super::padded_image::PaddedImage;
use super::super::simd::{InstructionSet, TILE, TILE_PAIRS, TileStep, TileSteps};
use super::super::thread_pool::ThreadPool;
use super::image_rows::ImageRows;
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
    pub(super) input: AmxInput,
    pub(super) steps: TileSteps,
    pub(super) rows: PixelRows,
    pub(super) products_per_row: usize,
    /// Number of parts into which the products are split. Each task computes one part of the products for one part of
    /// the panels.
    pub(super) product_parts: usize,
    /// Number of parts into which the panels are split.
    pub(super) panel_parts: usize,
    shared_len: usize,
}

/// Rows of output pixels, each with the pixels of a group of images, and the positions of their inputs in pairs.
pub(super) struct PixelRows {
    /// Number of rows of all groups.
    pub count: usize,
    /// Number of output pixels in a row.
    pub length: usize,
    /// Number of images in a group.
    pub group: usize,
    /// Offset of the inputs of the first row.
    pub first: usize,
    /// Distances between the inputs of two adjacent groups, rows and pixels.
    pub group_stride: usize,
    pub row_stride: usize,
    pub pixel_stride: usize,
}

/// Conversion of the input to bf16.
pub(super) enum AmxInput {
    Value(Lines),
    Image(ImageRows),
}

impl AmxInput {
    pub fn round(&self, values: &[f32], rounded: &mut [f32], set: InstructionSet, threads: &ThreadPool) {
        match self {
            AmxInput::Value(lines) => lines.round(values, rounded, set, threads),
            AmxInput::Image(rows) => rows.round(values, rounded, set, threads),
        }
    }
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
        let rows = PixelRows {
            count: lines.groups() * grid.height,
            length: grid.width * group,
            group,
            first: inset * lines.row_stride(),
            group_stride: lines.group_stride(),
            row_stride: stride * lines.row_stride(),
            pixel_stride: TILE_PAIRS,
        };
        let (steps, shared_len) = (steps(offsets), lines.len());
        AmxSchedule::divide(AmxInput::Value(lines), shared_len, steps, rows, weights, threads)
    }

    /// Builds the schedule for the stem, whose input is an image.
    pub fn for_image(weights: &AmxWeights, image: &PaddedImage, output: &BlockedShape, threads: usize) -> Self {
        let Filter { stride, ref elements, .. } = weights.layout.filter;
        let image_rows = ImageRows::new(image);
        let rows = PixelRows {
            count: output.batch * output.height,
            length: output.width,
            group: 1,
            first: 0,
            group_stride: image_rows.image_stride(),
            row_stride: stride * image_rows.row_stride(),
            pixel_stride: ImageRows::pixel_stride(stride),
        };
        let steps = steps((0..elements.len().isqrt()).map(|y| y * image_rows.row_stride()));
        let shared_len = image_rows.len(PIXELS, rows.pixel_stride);
        AmxSchedule::divide(AmxInput::Image(image_rows), shared_len, steps, rows, weights, threads)
    }

    /// Chooses the numbers of products and tasks.
    fn divide(
        input: AmxInput,
        shared_len: usize,
        steps: TileSteps,
        rows: PixelRows,
        weights: &AmxWeights,
        threads: usize,
    ) -> Self {
        let products_per_row = rows.length.div_ceil(PIXELS);
        let products = rows.count * products_per_row;
        let min_tasks = TASKS_PER_THREAD * threads;
        let mut product_parts = (shared_len * F32_BYTES).div_ceil(CACHE_BYTES).min(products);
        let mut panel_parts = 1;
        if weights.packed.len() * F32_BYTES > CACHE_BYTES {
            panel_parts = min_tasks.div_ceil(product_parts.max(1)).min(weights.layout.panels());
        }
        product_parts = product_parts.max(min_tasks.div_ceil(panel_parts).min(products));
        AmxSchedule { input, steps, rows, products_per_row, product_parts, panel_parts, shared_len }
    }

    /// Returns the numbers of output pixels that are computed together.
    pub fn tile_heights(&self) -> BTreeSet<usize> {
        let last = self.rows.length - (self.products_per_row - 1) * PIXELS;
        let full = (self.products_per_row > 1).then_some(PIXELS);
        full.into_iter().chain([last]).collect()
    }

    /// Returns the number of f32 values of temporary memory that all threads share.
    pub fn shared_len(&self) -> usize {
        self.shared_len
    }
}

/// Returns the steps with these offsets of the input and adjacent weights.
fn steps(offsets: impl Iterator<Item = usize>) -> TileSteps {
    TileSteps::new(offsets.enumerate().map(|(step, offset)| TileStep::new(offset, step * TILE_PAIRS * PANEL)).collect())
}
