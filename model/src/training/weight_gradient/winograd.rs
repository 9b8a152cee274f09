//! Gradient of the weights of a 3x3 convolution with stride 1 by Winograd's algorithm.
//!
//! A Winograd convolution computes `A^T [(G g G^T) * (B^T d B)] A` for each tile. Its gradient with respect to the filter
//! `g` is `G^T [(A e A^T) * (B^T d B)] G` for output gradients `e`, summed over all tiles. Inputs and gradients of some
//! rows of tiles, a *round*, are transformed; then the products of each of the α×α elements are added up, which is a
//! matrix product over the tiles; the sums of all rounds are transformed at the end. Rounds depend only on the shape, so
//! results do not depend on the number of threads.

use super::super::value::{Execution, Value};
use super::packed_sums::PackedSums;
use super::sum_tile::{PixelRow, SumOperands, run_sum_tile};
use crate::architecture::Convolution;
use crate::engine::cpu::WinogradVariant;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::{F32_BYTES, SharedMutSlice};
use crate::engine::cpu::microkernel::split_range;
use crate::engine::cpu::simd::{InstructionSet, Kernel, Simd};
use crate::engine::cpu::winograd::tiles::{
    PointCounts, TileColumn, TileRow, count_points, rows_per_point, tile_columns, tile_rows, tiles_per_row,
};
use crate::engine::cpu::winograd::transform::{ElementOffsets, GradientTransform, InputTransform};
use std::ops::Range;

/// Maximum size of the transformed values of a round, in bytes.
const ROUND_BYTES: usize = 8 << 20;

/// The division of a weight gradient into rounds and tasks, for values of one shape.
pub struct WinogradWeightGradient {
    variant: WinogradVariant,
    input: BlockedShape,
    gradient: BlockedShape,
    rows: Vec<TileRow>,
    columns: Vec<TileColumn>,
    tiles_per_row: PointCounts,
    rows_per_round: usize,
    sums: PackedSums,
    /// Ranges of blocks of the sums that have the same panel.
    panels: Vec<Range<usize>>,
    /// Number of vectors in a panel.
    panel_vectors: usize,
}

/// A value whose tiles are transformed.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Gradient,
}

impl WinogradWeightGradient {
    pub fn new(
        layer: &Convolution,
        variant: WinogradVariant,
        input: &BlockedShape,
        gradient: &BlockedShape,
        set: InstructionSet,
    ) -> Self {
        assert!(layer.kernel == 3 && layer.stride == 1 && variant.stride == 1 && input.border > 0);
        assert_eq!([input.batch, input.height, input.width], [gradient.batch, gradient.height, gradient.width]);
        assert_eq!([input.channels, gradient.channels], [layer.in_channels, layer.out_channels]);
        let (rows, columns) = (tile_rows(gradient, variant), tile_columns(gradient, variant));
        let sums = PackedSums::new(layer, set);
        let blocks = input.blocks() + gradient.blocks();
        let row_bytes = columns.len() * variant.alpha(variant.m).pow(2) * blocks * BLOCK * F32_BYTES;
        WinogradWeightGradient {
            variant,
            input: *input,
            gradient: *gradient,
            rows_per_round: (ROUND_BYTES / row_bytes).clamp(1, rows.len()),
            tiles_per_row: tiles_per_row(&columns, variant),
            rows,
            columns,
            panels: sums.panels(),
            panel_vectors: sums.panel / set.lanes(),
            sums,
        }
    }

    fn elements(&self) -> usize {
        self.variant.alpha(self.variant.m).pow(2)
    }

    /// Returns the number of tiles in a round.
    fn tiles(&self) -> usize {
        self.rows_per_round * self.columns.len()
    }

    /// Returns the distance from an element of a transformed value, `[elements, blocks, tiles, 16]`, to the next. One
    /// more cache line than necessary, so that the elements of a tile do not all belong to the same set of a cache.
    fn element_stride(&self, shape: &BlockedShape) -> usize {
        (shape.blocks() * self.tiles() + 1) * BLOCK
    }

    /// Returns the number of values of a transformed value.
    fn transformed_len(&self, shape: &BlockedShape) -> usize {
        self.elements() * self.element_stride(shape)
    }

    /// Returns the number of sums of one element for one block of channels.
    fn element_block_len(&self) -> usize {
        BLOCK * self.sums.panel
    }

    /// Returns the number of sums, `[elements, blocks, 16, panel]`.
    fn products_len(&self) -> usize {
        self.elements() * self.sums.blocks.len() * self.element_block_len()
    }

    /// Returns the number of values of temporary memory.
    pub fn scratch_len(&self) -> usize {
        let [input, gradient] = [&self.input, &self.gradient].map(|shape| self.transformed_len(shape));
        input + gradient + self.products_len() + self.sums.len()
    }

    /// Adds the gradient to `weight_gradient`, `[out_channels, in_channels, 3, 3]`. `scratch` has room for
    /// [`scratch_len`](Self::scratch_len) values.
    pub fn run(
        &self,
        input: &[f32],
        gradient: Value,
        weight_gradient: &mut [f32],
        scratch: &mut [f32],
        execution: Execution,
    ) {
        assert!(input.len() == self.input.len() && gradient.values.len() == self.gradient.len());
        let Execution { set, threads } = execution;
        let (inputs, rest) = scratch[..self.scratch_len()].split_at_mut(self.transformed_len(&self.input));
        let (gradients, rest) = rest.split_at_mut(self.transformed_len(&self.gradient));
        let (products, sums) = rest.split_at_mut(self.products_len());
        let shared_products = SharedMutSlice::new(products);
        for (round, rows) in self.rows.chunks(self.rows_per_round).enumerate() {
            let input_blocks = self.input.channels.div_ceil(BLOCK);
            let [target, gradient_target] = [&mut *inputs, &mut *gradients].map(SharedMutSlice::new);
            threads.for_each(input_blocks + self.gradient.channels.div_ceil(BLOCK), |task| {
                let (side, block, values, target) = match task.checked_sub(input_blocks) {
                    None => (Side::Input, task, input, target),
                    Some(block) => (Side::Gradient, block, gradient.values, gradient_target),
                };
                set.run(TransformBlock { division: self, rows, side, block, values, target });
            });
            let (inputs, gradients) = (&*inputs, &*gradients);
            threads.for_each(self.elements() * self.panels.len(), |task| {
                let (element, panel) = (task / self.panels.len(), task % self.panels.len());
                let (is_first, products) = (round == 0, shared_products);
                set.run(MultiplyElement {
                    division: self,
                    rows,
                    element,
                    panel,
                    inputs,
                    gradients,
                    products,
                    is_first,
                });
            });
        }
        let (products, target) = (&*products, SharedMutSlice::new(sums));
        threads.for_each(self.sums.blocks.len(), |block| {
            set.run(TransformSums { division: self, block, products, target });
        });
        self.sums.add_to(weight_gradient, sums, execution);
    }
}

/// Transforms the tiles of a round for one block of channels.
struct TransformBlock<'a> {
    division: &'a WinogradWeightGradient,
    rows: &'a [TileRow],
    side: Side,
    block: usize,
    values: &'a [f32],
    target: SharedMutSlice<'a>,
}

impl Kernel for TransformBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.division.variant.m {
            2 => self.transform::<S, 2>(simd),
            3 => self.transform::<S, 3>(simd),
            4 => self.transform::<S, 4>(simd),
            m => unreachable!("no variant has m = {m}"),
        }
    }
}

impl TransformBlock<'_> {
    #[inline(always)]
    fn transform<S: Simd, const M: usize>(self, simd: S) {
        let TransformBlock { division, rows, side, block, values, target } = self;
        let (tiles, variant) = (division.tiles(), division.variant);
        let (shape, inset) = match side {
            Side::Input => (&division.input, division.input.border - 1),
            Side::Gradient => (&division.gradient, division.gradient.border),
        };
        let mut preceding_rows = PointCounts::default();
        for row in rows {
            for column in &division.columns {
                let corner = block * shape.block_stride() + shape.offset(row.image, row.y + inset, column.x + inset);
                for lane in (0..BLOCK).step_by(S::LANES) {
                    let offsets = ElementOffsets {
                        start: block * tiles * BLOCK + lane,
                        element_stride: division.element_stride(shape),
                        tile_stride: BLOCK,
                        preceding_rows: &preceding_rows,
                        preceding_columns: &column.preceding,
                        tiles_per_row: &division.tiles_per_row,
                    };
                    let (outputs, corner, row_stride) = ([row.height, column.width], corner + lane, shape.row_stride());
                    match side {
                        Side::Input => {
                            let input = values;
                            InputTransform::<M, 1> { outputs, input, corner, row_stride, target, offsets }.run(simd);
                        }
                        Side::Gradient => {
                            let gradient = values;
                            GradientTransform::<M, 1> { outputs, gradient, corner, row_stride, target, offsets }
                                .run(simd);
                        }
                    }
                }
            }
            count_points(&mut preceding_rows, variant.alpha(row.height));
        }
    }
}

/// Adds up the products of one element of all tiles of a round, for one panel of output channels.
struct MultiplyElement<'a> {
    division: &'a WinogradWeightGradient,
    rows: &'a [TileRow],
    element: usize,
    panel: usize,
    inputs: &'a [f32],
    gradients: &'a [f32],
    products: SharedMutSlice<'a>,
    is_first: bool,
}

impl Kernel for MultiplyElement<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let MultiplyElement { division, rows, element, panel, inputs, gradients, products, is_first } = self;
        let (tiles, alpha) = (division.tiles(), division.variant.alpha(division.variant.m));
        let (y, x) = (element / alpha, element % alpha);
        let width = rows_per_point(rows, division.variant)[y] * division.tiles_per_row[x];
        let pixel_rows = [PixelRow { input: 0, gradient: 0 }];
        let pixel_rows = if width == 0 { &[][..] } else { &pixel_rows[..] };
        let blocks = division.panels[panel].clone();
        let first_output = division.sums.blocks[blocks.start].first_output;
        let block_len = tiles * BLOCK;
        let gradient_start = element * division.element_stride(&division.gradient)
            + first_output / BLOCK * block_len
            + first_output % BLOCK;
        for block in blocks {
            let input_block = division.sums.blocks[block].input_block;
            let input_start = element * division.element_stride(&division.input) + input_block * block_len;
            let first_sum = (element * division.sums.blocks.len() + block) * division.element_block_len();
            let parts = BLOCK.div_ceil(S::TILE_ROWS);
            for part in 0..parts {
                let range = split_range(BLOCK, parts, part);
                let operands = SumOperands {
                    input: inputs,
                    input_start: input_start + range.start,
                    input_step: BLOCK,
                    gradient: gradients,
                    gradient_start,
                    gradient_block_stride: block_len,
                    rows: pixel_rows,
                    width,
                    sums: products,
                    at: first_sum + range.start * division.sums.panel,
                    is_first,
                };
                run_sum_tile::<S, false>(simd, range.len(), division.panel_vectors, operands);
            }
        }
    }
}

/// Computes `G^T s G` for the sums of one block of channels.
struct TransformSums<'a> {
    division: &'a WinogradWeightGradient,
    block: usize,
    products: &'a [f32],
    target: SharedMutSlice<'a>,
}

impl Kernel for TransformSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.division.variant.m {
            2 => self.transform::<S, 4>(simd),
            3 => self.transform::<S, 5>(simd),
            4 => self.transform::<S, 6>(simd),
            m => unreachable!("no variant has m = {m}"),
        }
    }
}

impl TransformSums<'_> {
    #[inline(always)]
    fn transform<S: Simd, const ALPHA: usize>(self, simd: S) {
        let TransformSums { division, block, products, target } = self;
        let matrix = division.variant.filter_transform();
        let length = division.element_block_len();
        let element_stride = division.sums.blocks.len() * length;
        assert!(products.len() >= ALPHA * ALPHA * element_stride && target.len() == division.sums.len());
        for at in (0..length).step_by(S::LANES) {
            let mut rows = [[simd.splat(0.0); 3]; ALPHA];
            for (y, row) in rows.iter_mut().enumerate() {
                for (x, factors) in matrix[..ALPHA].iter().enumerate() {
                    let from = (y * ALPHA + x) * element_stride + block * length + at;
                    // SAFETY: the assertion above checks that there are sums for all elements and blocks.
                    let product = unsafe { simd.read(products, from) };
                    for (sum, &factor) in row.iter_mut().zip(factors) {
                        *sum = simd.multiply_add(simd.splat(factor as f32), product, *sum);
                    }
                }
            }
            for filter_y in 0..3 {
                for filter_x in 0..3 {
                    let mut sum = simd.splat(0.0);
                    for (row, factors) in rows.iter().zip(&matrix) {
                        sum = simd.multiply_add(simd.splat(factors[filter_y] as f32), row[filter_x], sum);
                    }
                    let to = (block * 9 + filter_y * 3 + filter_x) * length + at;
                    // SAFETY: the assertion above checks that the sums have room for all blocks, and each task writes
                    // its own block.
                    unsafe { simd.write(target, to, sum) };
                }
            }
        }
    }
}
