//! Gradient of a convolution's weights, computed directly: for each filter element, the products of the inputs that it
//! multiplies and the gradients of the outputs, summed over all pixels of the batch.
//!
//! A register tile holds the sums of some input channels, its rows, and a panel of output channels, its columns. In the
//! stem, the rows are the values of one row of the filter window. Pixels are read in chunks that fit into the
//! first-level cache, where all filter elements use them. If a layer has few channels, the batch is divided into groups
//! of images whose sums are added at the end. Groups and chunks depend only on the shape, so results do not depend on
//! the number of threads.
//!
//! In bf16, both operands are first rounded to [pairs of pixels](super::pixel_pairs), and the pixels of the inputs are
//! repeated for each filter element that multiplies them.

use super::super::value::{Execution, Value};
use super::packed_sums::{ChannelBlock, PackedSums};
use super::pixel_pairs::PixelPairs;
use super::sum_tile::{PixelRow, SumOperands, run_sum_tile};
use crate::architecture::Convolution;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::{F32_BYTES, SharedMutSlice};
use crate::engine::cpu::microkernel::split_range;
use crate::engine::cpu::padded_image::{COLOURS, PaddedImage};
use crate::engine::cpu::simd::{InstructionSet, Kernel, Simd};
use std::ops::Range;

/// Number of bytes of the inputs of a block and of the gradients of a panel in a chunk.
const CHUNK_BYTES: usize = 16 << 10;
/// Number of bytes of sums that a task adds up at the same time. Their blocks use the same gradients.
const TASK_BYTES: usize = 64 << 10;
/// Number of tasks that a layer is divided into, if its batch is large enough, so that many threads have work.
const MIN_TASKS: usize = 32;

/// The division of a weight gradient into tasks and chunks, for values of one shape.
pub struct DirectWeightGradient {
    sums: PackedSums,
    /// Ranges of blocks that a task computes; they have the same panel.
    tasks: Vec<Range<usize>>,
    /// Number of vectors in a panel.
    columns: usize,
    operands: OperandLayout,
    /// Conversion of the operands to bf16; `None` if the products are in f32.
    pairs: Option<OperandPairs>,
    rows_per_chunk: usize,
    /// Ranges of rows of pixels that are summed up independently.
    groups: Vec<Range<usize>>,
}

/// Positions of the operands. In bf16, a value is a pair of bf16, and a pixel is a pair of pixels.
struct OperandLayout {
    /// The rows of the sums of a block.
    row_groups: Vec<RowGroup>,
    /// Rows of output pixels, image after image.
    pixel_rows: Vec<PixelRow>,
    /// Number of output pixels in a row.
    width: usize,
    /// Number of values of the input in a row, for one block.
    input_row_len: usize,
    /// Distance between the inputs of two adjacent output pixels.
    input_step: usize,
    input_block_stride: usize,
    gradient_block_stride: usize,
}

/// Sums with adjacent inputs: the channels of a block for one filter element, or in the stem one row of the filter
/// window.
struct RowGroup {
    /// Offset of the first input from that of the first filter element.
    offset: usize,
    count: usize,
}

/// Both operands as pairs of bf16.
struct OperandPairs {
    input: PixelPairs,
    gradient: PixelPairs,
}

impl DirectWeightGradient {
    /// Divides the weight gradient of a layer that reads a blocked value.
    pub fn new(layer: &Convolution, input: &BlockedShape, gradient: &BlockedShape, set: InstructionSet) -> Self {
        let (kernel, inset) = (layer.kernel, input.border - layer.padding);
        let row_groups = (0..kernel * kernel).map(|element| {
            let offset = element / kernel * input.row_stride() + element % kernel * BLOCK;
            RowGroup { offset, count: BLOCK }
        });
        let input_row = |image: usize, y: usize| input.offset(image, y * layer.stride + inset, inset);
        let operands = OperandLayout {
            row_groups: row_groups.collect(),
            pixel_rows: pixel_rows(gradient, input_row),
            width: gradient.width,
            input_row_len: gradient.width * BLOCK * layer.stride,
            input_step: layer.stride * BLOCK,
            input_block_stride: input.block_stride(),
            gradient_block_stride: gradient.block_stride(),
        };
        DirectWeightGradient::divide(layer, gradient.batch, operands, None, set)
    }

    /// Divides the weight gradient of the stem, whose input is an image.
    pub fn for_image(layer: &Convolution, input: &PaddedImage, gradient: &BlockedShape, set: InstructionSet) -> Self {
        let kernel = layer.kernel;
        let row_groups = (0..kernel).map(|y| RowGroup { offset: y * input.row_stride(), count: kernel * COLOURS });
        let input_row = |image: usize, y: usize| image * input.image_stride() + y * layer.stride * input.row_stride();
        let operands = OperandLayout {
            row_groups: row_groups.collect(),
            pixel_rows: pixel_rows(gradient, input_row),
            width: gradient.width,
            input_row_len: gradient.width * BLOCK * layer.stride,
            input_step: layer.stride * COLOURS,
            input_block_stride: 0,
            gradient_block_stride: gradient.block_stride(),
        };
        DirectWeightGradient::divide(layer, gradient.batch, operands, None, set)
    }

    /// Divides the weight gradient of a layer that reads a blocked value, with products in bf16.
    pub fn in_bf16(layer: &Convolution, input: &BlockedShape, gradient: &BlockedShape, set: InstructionSet) -> Self {
        let pairs = OperandPairs {
            input: PixelPairs::of_inputs(layer, input, gradient),
            gradient: PixelPairs::of_gradients(gradient),
        };
        let rows = (0..gradient.batch * gradient.height).map(|row| row * pairs.gradient.row_len());
        let elements = 0..layer.kernel * layer.kernel;
        let operands = OperandLayout {
            row_groups: elements
                .map(|element| RowGroup { offset: element * pairs.input.element_len(), count: BLOCK })
                .collect(),
            pixel_rows: rows.map(|at| PixelRow { input: at, gradient: at }).collect(),
            width: pairs.input.row_len() / BLOCK,
            input_row_len: pairs.input.row_len(),
            input_step: BLOCK,
            input_block_stride: pairs.input.block_len(),
            gradient_block_stride: pairs.gradient.block_len(),
        };
        DirectWeightGradient::divide(layer, gradient.batch, operands, Some(pairs), set)
    }

    fn divide(
        layer: &Convolution,
        batch: usize,
        operands: OperandLayout,
        pairs: Option<OperandPairs>,
        set: InstructionSet,
    ) -> Self {
        let sums = PackedSums::new(layer, set);
        let blocks_per_task = (TASK_BYTES / (sums.block_len() * F32_BYTES)).max(1);
        let mut tasks = Vec::new();
        for panel in sums.panels() {
            tasks.extend(
                panel.clone().step_by(blocks_per_task).map(|first| first..(first + blocks_per_task).min(panel.end)),
            );
        }
        let rows_per_image = operands.pixel_rows.len() / batch;
        let group_count = MIN_TASKS.div_ceil(tasks.len()).min(batch);
        let groups = (0..group_count).map(|index| {
            let images = split_range(batch, group_count, index);
            images.start * rows_per_image..images.end * rows_per_image
        });
        let row_bytes = (operands.input_row_len + operands.width * sums.panel) * F32_BYTES;
        DirectWeightGradient {
            tasks,
            columns: sums.panel / set.lanes(),
            sums,
            rows_per_chunk: (CHUNK_BYTES / row_bytes).max(1),
            groups: groups.collect(),
            operands,
            pairs,
        }
    }

    /// Returns the number of values of temporary memory.
    pub fn scratch_len(&self) -> usize {
        let pairs = self.pairs.as_ref().map_or(0, |pairs| pairs.input.len() + pairs.gradient.len());
        self.sums_len() + pairs
    }

    /// Returns the number of sums of all groups.
    fn sums_len(&self) -> usize {
        self.groups.len() * self.sums.len()
    }

    /// Adds the gradient to `weight_gradient`, `[out_channels, in_channels / groups, kernel, kernel]`. `scratch` has
    /// room for [`scratch_len`](Self::scratch_len) values.
    pub fn run(
        &self,
        input: &[f32],
        gradient: Value,
        weight_gradient: &mut [f32],
        scratch: &mut [f32],
        execution: Execution,
    ) {
        let (values, rest) = scratch[..self.scratch_len()].split_at_mut(self.sums_len());
        let (input, gradient) = match &self.pairs {
            None => (input, gradient.values),
            Some(pairs) => {
                let (input_pairs, gradient_pairs) = rest.split_at_mut(pairs.input.len());
                pairs.input.round(input, input_pairs, execution);
                pairs.gradient.round(gradient.values, gradient_pairs, execution);
                (&*input_pairs, &*gradient_pairs)
            }
        };
        let (tasks, shared) = (self.tasks.len(), SharedMutSlice::new(&mut *values));
        execution.threads.for_each(self.groups.len() * tasks, |index| {
            let (group, blocks) = (index / tasks, self.tasks[index % tasks].clone());
            execution.set.run(Task {
                division: self,
                at: group * self.sums.len() + blocks.start * self.sums.block_len(),
                blocks: &self.sums.blocks[blocks],
                rows: &self.operands.pixel_rows[self.groups[group].clone()],
                input,
                gradient,
                sums: shared,
            });
        });
        self.sums.add_to(weight_gradient, values, execution);
    }
}

/// Returns the rows of output pixels. `input_row` returns the offset of the inputs of a row of an image.
fn pixel_rows(gradient: &BlockedShape, input_row: impl Fn(usize, usize) -> usize) -> Vec<PixelRow> {
    let rows = (0..gradient.batch).flat_map(|image| (0..gradient.height).map(move |y| (image, y)));
    let rows = rows.map(|(image, y)| PixelRow {
        input: input_row(image, y),
        gradient: gradient.offset(image, y + gradient.border, gradient.border),
    });
    rows.collect()
}

/// Computes the sums of some blocks of a panel for some rows of pixels.
struct Task<'a> {
    division: &'a DirectWeightGradient,
    blocks: &'a [ChannelBlock],
    rows: &'a [PixelRow],
    input: &'a [f32],
    gradient: &'a [f32],
    sums: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Task { division, blocks, rows, input, gradient, sums, at } = self;
        let OperandLayout { input_step, input_block_stride, gradient_block_stride, width, .. } = division.operands;
        let first_output = blocks[0].first_output;
        let gradient_start = first_output / BLOCK * gradient_block_stride + first_output % BLOCK;
        for (index, rows) in rows.chunks(division.rows_per_chunk).enumerate() {
            let mut at = at;
            for block in blocks {
                let input_start = block.input_block * input_block_stride;
                for group in &division.operands.row_groups {
                    let parts = group.count.div_ceil(S::TILE_ROWS);
                    for part in 0..parts {
                        let range = split_range(group.count, parts, part);
                        let operands = SumOperands {
                            input,
                            input_start: input_start + group.offset + range.start,
                            input_step,
                            gradient,
                            gradient_start,
                            gradient_block_stride,
                            rows,
                            width,
                            sums,
                            at,
                            is_first: index == 0,
                        };
                        match division.pairs {
                            None => run_sum_tile::<S, false>(simd, range.len(), division.columns, operands),
                            Some(_) => run_sum_tile::<S, true>(simd, range.len(), division.columns, operands),
                        }
                        at += range.len() * division.sums.panel;
                    }
                }
            }
        }
    }
}
