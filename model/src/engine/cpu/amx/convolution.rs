//! Convolution of a value that is rounded to lines.

use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::SharedMutSlice;
use super::super::convolution_output::ConvolutionOutput;
use super::super::microkernel::split_range;
use super::super::simd::{InstructionSet, Kernel, Simd, TILE, TileProduct};
use super::super::thread_pool::ThreadPool;
use super::schedule::{AmxSchedule, PIXELS};
use super::weights::{AmxWeights, PANEL};
use std::ops::Range;

/// A convolution of one input.
pub struct AmxConvolution<'a> {
    pub weights: &'a AmxWeights,
    pub schedule: &'a AmxSchedule,
    /// Input, `[in_channels / 16, batch, height, width, 16]` with a border of at least the padding, or for the stem a
    /// [`PaddedImage`](super::super::padded_image::PaddedImage).
    pub input: &'a [f32],
    pub output: ConvolutionOutput<'a>,
}

impl AmxConvolution<'_> {
    /// Computes the convolution. `shared` has room for [`AmxSchedule::shared_len`] values.
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool, shared: &mut [f32]) {
        let AmxSchedule { ref input, ref rows, products_per_row, product_parts, panel_parts, .. } = *self.schedule;
        let panels = self.weights.layout.panels();
        input.round(self.input, shared, set, threads);
        self.output.check(panels * PANEL);
        let ConvolutionOutput { shape, grid, .. } = self.output;
        assert_eq!(
            [rows.count, rows.length],
            [shape.batch.div_ceil(rows.group) * grid.height, rows.group * grid.width]
        );
        threads.for_each(product_parts * panel_parts, |task| {
            set.run(Task {
                convolution: self,
                lines: shared,
                products: split_range(rows.count * products_per_row, product_parts, task % product_parts),
                panels: split_range(panels, panel_parts, task / product_parts),
            });
        });
    }
}

/// Computes some products for some panels of output channels.
struct Task<'a> {
    convolution: &'a AmxConvolution<'a>,
    lines: &'a [f32],
    products: Range<usize>,
    panels: Range<usize>,
}

/// Sums of a product, `[pixels, panel]`.
#[repr(align(64))]
struct Sums([f32; PIXELS * PANEL]);

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AmxConvolution { weights, schedule, output, .. } = self.convolution;
        let AmxSchedule { ref steps, ref rows, products_per_row, .. } = **schedule;
        let group = rows.group;
        let mut sums = Sums([0.0; PIXELS * PANEL]);
        let tiles = weights.unit.configure_tiles();
        for panel in self.panels.clone() {
            let columns = panel * weights.panel_len();
            for product in self.products.clone() {
                let (row, part) = (product / products_per_row, product % products_per_row);
                let (first_image, y) = (row / output.grid.height * group, row % output.grid.height);
                let pixels = part * PIXELS..((part + 1) * PIXELS).min(rows.length);
                let start = rows.first
                    + first_image / group * rows.group_stride
                    + y * rows.row_stride
                    + pixels.start * rows.pixel_stride;
                let second = if pixels.len() > TILE { TILE } else { 0 };
                let product = TileProduct {
                    steps,
                    range: 0..steps.len(),
                    rows: self.lines,
                    rows_start: [start, start + second * rows.pixel_stride],
                    row_stride: rows.pixel_stride,
                    columns: &weights.packed,
                    columns_start: [columns, columns + TILE],
                    column_stride: PANEL,
                    sums: SharedMutSlice::new(&mut sums.0),
                    sums_start: [0, second * PANEL],
                    sums_stride: PANEL,
                    accumulate: false,
                };
                // SAFETY: the sums belong to this task.
                unsafe { tiles.multiply(&product) };
                self.write(simd, &sums.0, panel * PANEL, RowPart { first_image, y, pixels });
            }
        }
    }
}

/// Some pixels of a row of output pixels.
struct RowPart {
    /// First image of the group.
    first_image: usize,
    y: usize,
    pixels: Range<usize>,
}

impl Task<'_> {
    /// Writes the sums of a product to the output, from `first_channel` on.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, sums: &[f32], first_channel: usize, part: RowPart) {
        let ConvolutionOutput { shape, grid, residual, .. } = self.convolution.output;
        let RowPart { first_image, y, pixels } = part;
        let group = self.convolution.schedule.rows.group;
        let row_at = |shape: &BlockedShape| grid.offset(shape, first_image, y, 0);
        let (row, residual_row) = (row_at(shape), residual.map_or(0, |(_, shape)| row_at(shape)));
        let residual_stride = residual.map_or(0, |(_, shape)| shape.image_stride());
        let (mut x, mut image) = (pixels.start / group, pixels.start % group);
        for sums in sums.chunks_exact(PANEL).take(pixels.len()) {
            // The last group may have fewer images.
            if first_image + image < shape.batch {
                let distance = x * grid.step * BLOCK;
                let at = row + distance + image * shape.image_stride();
                let residual_at = residual_row + distance + image * residual_stride;
                for channel in (0..PANEL).step_by(S::LANES) {
                    // SAFETY: `AmxConvolution::run` checks the output. Products cover each pixel and channel of it once.
                    unsafe {
                        let sum = simd.read(sums, channel);
                        self.convolution.output.write(simd, sum, first_channel + channel, at, residual_at);
                    }
                }
            }
            image += 1;
            if image == group {
                (x, image) = (x + 1, 0);
            }
        }
    }
}
