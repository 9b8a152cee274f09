//! Winograd convolution, F(m×m, 3×3): fewer multiplications than a direct convolution.
//!
//! The input tiles of a block are transformed, each of the α×α elements of the transformed tiles takes part in one
//! matrix product per panel of output channels, and the products are transformed back into output tiles. If the weights
//! fit into the cache along with a block, one task does all of this for its block. If they are larger, each weight
//! should be read only once: the inputs of all blocks of a round are transformed first, and then each task multiplies
//! one block by one panel of the weights.

mod schedule;
pub(crate) mod tiles;
pub(crate) mod transform;
mod weights;

pub use schedule::WinogradSchedule;
pub use weights::WinogradWeights;

use super::blocked_shape::{BLOCK, BlockedShape};
use super::buffer::SharedMutSlice;
use super::convolution_output::ConvolutionOutput;
use super::microkernel::{Microkernel, Operands, StoreSums, WeightPrefetch, split_range, with_rows};
use super::simd::{InstructionSet, Kernel, Simd};
use super::thread_pool::{ThreadPool, ThreadScratch};
use crate::engine::winograd::{MAX_ALPHA, WinogradVariant};
use schedule::ElementProduct;
use std::ops::Range;
use tiles::{TileColumn, TileRow, count_points, rows_per_point};
use transform::{ElementOffsets, InputTransform, OutputTransform};

/// A Winograd convolution of one input.
pub struct WinogradConvolution<'a> {
    pub weights: &'a WinogradWeights,
    pub schedule: &'a WinogradSchedule,
    /// Input, `[in_channels / 16, batch, height, width, 16]` with a border of at least 1.
    pub input: &'a [f32],
    pub input_shape: &'a BlockedShape,
    pub output: ConvolutionOutput<'a>,
}

impl WinogradConvolution<'_> {
    /// Computes the convolution. `shared` has room for [`WinogradSchedule::shared_len`] values, `scratch` for
    /// [`WinogradSchedule::scratch_len`].
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool, shared: &mut [f32], scratch: &ThreadScratch) {
        let WinogradConvolution { weights, schedule, .. } = *self;
        self.output.check(weights.panels * weights.panel);
        assert_eq!(self.input.len(), self.input_shape.len());
        assert_eq!(self.output.grid.pixels(), self.output.shape.height * self.output.shape.width);
        assert!(self.input_shape.border > 0 && shared.len() >= schedule.shared_len(weights));
        let blocks = schedule.rows.len().div_ceil(schedule.rows_per_block);
        if schedule.fused {
            threads.for_each_with_scratch(scratch, blocks, |block, scratch| {
                let (transformed, products) = scratch.split_at_mut(schedule.transformed_len(weights));
                set.run(Task { convolution: self, block, phase: Phase::Fused { transformed, products } });
            });
            return;
        }
        let size = schedule.transformed_len(weights);
        for round in (0..blocks).step_by(schedule.blocks_per_round) {
            let count = schedule.blocks_per_round.min(blocks - round);
            let transformed = SharedMutSlice::new(shared);
            threads.for_each(count * weights.in_blocks, |task| {
                let (block, channels) = (task / weights.in_blocks, task % weights.in_blocks);
                let phase = Phase::Transform { transformed, at: block * size, channels: channels..channels + 1 };
                set.run(Task { convolution: self, block: round + block, phase });
            });
            let transformed = &*shared;
            threads.for_each_with_scratch(scratch, count * weights.panels, |task, products| {
                // Consecutive tasks use the same panel of weights.
                let (panel, block) = (task / count, task % count);
                let transformed = &transformed[block * size..][..size];
                let phase = Phase::Multiply { transformed, products, panels: panel..panel + 1 };
                set.run(Task { convolution: self, block: round + block, phase });
            });
        }
    }
}

/// Part of the computations for one block of tiles.
struct Task<'a> {
    convolution: &'a WinogradConvolution<'a>,
    block: usize,
    phase: Phase<'a>,
}

enum Phase<'a> {
    /// Transforms some blocks of input channels, and stores them at offset `at`.
    Transform { transformed: SharedMutSlice<'a>, at: usize, channels: Range<usize> },
    /// Computes some panels of output channels from transformed inputs.
    Multiply { transformed: &'a [f32], products: &'a mut [f32], panels: Range<usize> },
    /// Computes all output channels.
    Fused { transformed: &'a mut [f32], products: &'a mut [f32] },
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.convolution.weights.variant {
            WinogradVariant { m: 2, stride: 1 } => self.run_variant::<S, 2, 1>(simd),
            WinogradVariant { m: 3, stride: 1 } => self.run_variant::<S, 3, 1>(simd),
            WinogradVariant { m: 4, stride: 1 } => self.run_variant::<S, 4, 1>(simd),
            WinogradVariant { m: 2, stride: 2 } => self.run_variant::<S, 2, 2>(simd),
            variant => unreachable!("{variant:?} is not supported"),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run_variant<S: Simd, const M: usize, const STRIDE: usize>(self, simd: S) {
        let Task { convolution, block, phase } = self;
        let rows = convolution.schedule.block(block);
        match phase {
            Phase::Transform { transformed, at, channels } => {
                simd.vectorize(TransformInputs::<M, STRIDE> { convolution, rows, transformed, at, channels });
            }
            Phase::Multiply { transformed, products, panels } => {
                simd.vectorize(ComputeOutputs::<M, STRIDE> { convolution, rows, transformed, products, panels });
            }
            Phase::Fused { transformed, products } => {
                let channels = 0..convolution.weights.in_blocks;
                let target = SharedMutSlice::new(transformed);
                simd.vectorize(TransformInputs::<M, STRIDE> {
                    convolution,
                    rows,
                    transformed: target,
                    at: 0,
                    channels,
                });
                let panels = 0..convolution.weights.panels;
                simd.vectorize(ComputeOutputs::<M, STRIDE> { convolution, rows, transformed, products, panels });
            }
        }
    }
}

/// Transforms the inputs of a block of tiles to `[elements, in_blocks, tiles, 16]`.
struct TransformInputs<'a, const M: usize, const STRIDE: usize> {
    convolution: &'a WinogradConvolution<'a>,
    rows: &'a [TileRow],
    transformed: SharedMutSlice<'a>,
    at: usize,
    channels: Range<usize>,
}

impl<const M: usize, const STRIDE: usize> Kernel for TransformInputs<'_, M, STRIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TransformInputs { convolution: WinogradConvolution { weights, schedule, input, input_shape, .. }, .. } =
            self;
        let tiles = schedule.tiles_per_block();
        let tiles_per_row = schedule.tiles_per_row(weights.variant);
        let inset = input_shape.border - 1;
        for block in self.channels {
            let mut preceding_rows = [0; MAX_ALPHA];
            for row in self.rows {
                for column in &schedule.columns {
                    let corner = block * input_shape.block_stride()
                        + input_shape.offset(row.image, row.y * STRIDE + inset, column.x * STRIDE + inset);
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let offsets = ElementOffsets {
                            start: self.at + block * tiles * BLOCK + lane,
                            element_stride: schedule.transformed_stride(weights),
                            tile_stride: BLOCK,
                            preceding_rows: &preceding_rows,
                            preceding_columns: &column.preceding,
                            tiles_per_row: &tiles_per_row,
                        };
                        let tile = InputTransform::<M, STRIDE> {
                            outputs: [row.height, column.width],
                            input,
                            corner: corner + lane,
                            row_stride: input_shape.row_stride(),
                            target: self.transformed,
                            offsets,
                        };
                        tile.run(simd);
                    }
                }
                count_points(&mut preceding_rows, weights.variant.alpha(row.height));
            }
        }
    }
}

/// Multiplies the transformed inputs of a block of tiles by panels of the weights, and transforms the products to
/// outputs.
struct ComputeOutputs<'a, const M: usize, const STRIDE: usize> {
    convolution: &'a WinogradConvolution<'a>,
    rows: &'a [TileRow],
    /// Transformed inputs, `[elements, in_blocks, tiles, 16]`.
    transformed: &'a [f32],
    /// Memory for the products, `[elements, tiles, panel]` with padding between elements.
    products: &'a mut [f32],
    panels: Range<usize>,
}

impl<const M: usize, const STRIDE: usize> Kernel for ComputeOutputs<'_, M, STRIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let WinogradConvolution { weights, schedule, output, input_shape, .. } = self.convolution;
        let tiles_per_row = schedule.tiles_per_row(weights.variant);
        let rows_per_point = rows_per_point(self.rows, weights.variant);
        let tiles = schedule.tiles_per_block();
        let (filter_elements, depth, panel) =
            (weights.variant.filter_elements(), weights.in_blocks * BLOCK, weights.panel);
        debug_assert_eq!(input_shape.batch, output.shape.batch);
        let residual_shape = output.residual.map(|(_, shape)| shape);

        for index in self.panels {
            let target = SharedMutSlice::new(self.products);
            for &ElementProduct { element, points: [y, x], filter_element } in &schedule.products {
                let element_tiles = rows_per_point[y] * tiles_per_row[x];
                let first_weight = (index * filter_elements + filter_element) * depth * panel;
                let packed = &weights.packed[first_weight..][..depth * panel];
                let inputs = &self.transformed[element * schedule.transformed_stride(weights)..][..depth * tiles];
                let parts = element_tiles.div_ceil(S::TILE_ROWS);
                for part in 0..parts {
                    let part_tiles = split_range(element_tiles, parts, part);
                    let at = element * schedule.products_stride(weights) + part_tiles.start * panel;
                    let epilogue = StoreSums { target, at };
                    let prefetch = WeightPrefetch::new(depth * panel, panel, part, parts);
                    let (origin, runs) = (part_tiles.start * BLOCK, &schedule.runs);
                    let operands = Operands { input: inputs, origin, runs, weights: packed, prefetch };
                    run_microkernel(simd, part_tiles.len(), operands, epilogue);
                }
            }

            let mut preceding_rows = [0; MAX_ALPHA];
            for row in self.rows {
                for column in &schedule.columns {
                    for lane in (0..panel).step_by(S::LANES) {
                        let offsets = ElementOffsets {
                            start: lane,
                            element_stride: schedule.products_stride(weights),
                            tile_stride: panel,
                            preceding_rows: &preceding_rows,
                            preceding_columns: &column.preceding,
                            tiles_per_row: &tiles_per_row,
                        };
                        let tile = OutputTransform::<M, STRIDE> {
                            outputs: [row.height, column.width],
                            products: self.products,
                            offsets,
                            output: *output,
                            channel: index * panel + lane,
                            corner: corner(output.shape, row, column),
                            residual_corner: residual_shape.map_or(0, |shape| corner(shape, row, column)),
                        };
                        tile.run(simd);
                    }
                }
                count_points(&mut preceding_rows, weights.variant.alpha(row.height));
            }
        }
    }
}

/// Returns the offset of a tile's first pixel in a block of channels.
#[inline(always)]
fn corner(shape: &BlockedShape, row: &TileRow, column: &TileColumn) -> usize {
    shape.offset(row.image, row.y + shape.border, column.x + shape.border)
}

/// Multiplies `rows` transformed tiles by a panel of weights, in a register tile as wide as the instruction set allows.
#[inline(always)]
fn run_microkernel<S: Simd>(simd: S, rows: usize, operands: Operands, epilogue: StoreSums) {
    with_rows!(rows, ROWS => match S::TILE_COLUMNS {
        2 => simd.vectorize(Microkernel::<_, ROWS, 2, BLOCK, BLOCK> { operands, epilogue }),
        4 => simd.vectorize(Microkernel::<_, ROWS, 4, BLOCK, BLOCK> { operands, epilogue }),
        columns => unreachable!("no register tile is {columns} vectors wide"),
    });
}
