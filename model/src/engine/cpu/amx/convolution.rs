//! Convolution of a value that is rounded to lines.

use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::SharedMutSlice;
use super::super::convolution_output::ConvolutionOutput;
use super::super::microkernel::split_range;
use super::super::simd::{InstructionSet, Kernel, Simd, TILE, TILE_PAIRS, TileProduct};
use super::super::thread_pool::ThreadPool;
use super::schedule::{AmxSchedule, PIXELS};
use super::weights::{AmxWeights, PANEL};
use std::ops::Range;

/// A convolution of one input.
pub struct AmxConvolution<'a> {
    pub weights: &'a AmxWeights,
    pub schedule: &'a AmxSchedule,
    /// Input, `[in_channels / 16, batch, height, width, 16]` with a border of at least the padding.
    pub input: &'a [f32],
    pub output: ConvolutionOutput<'a>,
}

impl AmxConvolution<'_> {
    /// Computes the convolution. `shared` has room for [`AmxSchedule::shared_len`] values.
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool, shared: &mut [f32]) {
        let AmxSchedule { ref lines, rows, row_len, group, products_per_row, product_parts, panel_parts, .. } =
            *self.schedule;
        let panels = self.weights.layout.panels();
        lines.round(self.input, shared, set, threads);
        self.output.check(panels * PANEL);
        let ConvolutionOutput { shape, grid, .. } = self.output;
        assert!(rows == shape.batch.div_ceil(group) * grid.height && row_len == group * grid.width);
        threads.for_each(product_parts * panel_parts, |task| {
            set.run(Task {
                convolution: self,
                lines: shared,
                products: split_range(rows * products_per_row, product_parts, task % product_parts),
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
        let AmxSchedule { ref lines, ref steps, first_row, row_stride, group, row_len, products_per_row, .. } =
            **schedule;
        let batch = output.shape.batch;
        let mut sums = Sums([0.0; PIXELS * PANEL]);
        weights.unit.with_tiles(|tiles| {
            for panel in self.panels.clone() {
                let columns = panel * weights.layout.panel_len() / 2;
                for product in self.products.clone() {
                    let (row, part) = (product / products_per_row, product % products_per_row);
                    let (first_image, y) = (row / output.grid.height * group, row % output.grid.height);
                    let pixels = part * PIXELS..((part + 1) * PIXELS).min(row_len);
                    let rows = first_image / group * lines.group_stride()
                        + first_row
                        + y * row_stride
                        + pixels.start * TILE_PAIRS;
                    let second = if pixels.len() > TILE { TILE } else { 0 };
                    let product = TileProduct {
                        steps,
                        range: 0..steps.len(),
                        rows: self.lines,
                        rows_start: [rows, rows + second * TILE_PAIRS],
                        row_stride: TILE_PAIRS,
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
                    let row_at = |shape: &BlockedShape| output.grid.offset(shape, first_image, y, 0);
                    let (output_at, residual_at) =
                        (row_at(output.shape), output.residual.map_or(0, |(_, shape)| row_at(shape)));
                    let residual_stride = output.residual.map_or(0, |(_, shape)| shape.image_stride());
                    let (mut x, mut image) = (pixels.start / group, pixels.start % group);
                    for sums in sums.0.chunks_exact(PANEL).take(pixels.len()) {
                        if first_image + image < batch {
                            let distance = x * output.grid.step * BLOCK;
                            let at = output_at + distance + image * output.shape.image_stride();
                            let residual_at = residual_at + distance + image * residual_stride;
                            for channel in (0..PANEL).step_by(S::LANES) {
                                // SAFETY: `AmxConvolution::run` checks the output. Products cover each pixel and channel
                                // of it once.
                                unsafe {
                                    let sum = simd.read(sums, channel);
                                    output.write(simd, sum, panel * PANEL + channel, at, residual_at);
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
        });
    }
}
