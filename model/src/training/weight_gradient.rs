//! Gradient of a convolution's weights: for each filter element, the products of the inputs that it multiplies and the
//! gradients of the outputs, summed over all pixels of the batch.
//!
//! A register tile holds the sums of some input channels, its rows, and a panel of output channels, its columns. In the
//! stem, the rows are the values of one row of the filter window. Pixels are read in chunks that fit into the
//! first-level cache, where all filter elements use them. If a layer has few channels, the batch is divided into groups
//! of images whose sums are added at the end. Groups and chunks depend only on the shape, so results do not depend on
//! the number of threads.

use super::value::{Execution, Value};
use crate::architecture::Convolution;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::{F32_BYTES, SharedMutSlice};
use crate::engine::cpu::microkernel::{split_range, unroll, with_rows};
use crate::engine::cpu::padded_image::{COLOURS, PaddedImage};
use crate::engine::cpu::simd::{InstructionSet, Kernel, Simd};
use std::ops::Range;

/// Number of bytes of inputs and gradients in a chunk.
const CHUNK_BYTES: usize = 24 << 10;
/// Number of tasks that a layer is divided into, if its batch is large enough, so that many threads have work.
const MIN_TASKS: usize = 32;

/// The division of a weight gradient into tasks and chunks, for values of one shape.
pub struct WeightGradient {
    layer: Convolution,
    reads_image: bool,
    /// Panels of output channels, each with a block of input channels.
    blocks: Vec<ChannelBlock>,
    /// Number of output channels in a panel.
    panel: usize,
    /// Number of vectors in a panel.
    columns: usize,
    /// The rows of the sums of a block.
    row_groups: Vec<RowGroup>,
    /// Rows of output pixels, image after image.
    pixel_rows: Vec<PixelRow>,
    rows_per_chunk: usize,
    /// Ranges of `pixel_rows` that are summed up independently.
    groups: Vec<Range<usize>>,
    /// Number of output pixels in a row.
    width: usize,
    /// Distance between the inputs of two adjacent output pixels.
    input_step: usize,
    input_block_stride: usize,
    gradient_block_stride: usize,
}

/// A panel of output channels and a block of input channels.
struct ChannelBlock {
    first_output: usize,
    /// Index of the block of input channels.
    input_block: usize,
}

/// Sums with adjacent inputs: the channels of a block for one filter element, or in the stem one row of the filter
/// window.
struct RowGroup {
    /// Offset of the first input from that of the first filter element.
    offset: usize,
    count: usize,
    /// The first filter element.
    element: usize,
}

/// Offsets of the first pixel of a row of output pixels.
#[derive(Clone, Copy)]
struct PixelRow {
    /// Offset of the input of the first filter element.
    input: usize,
    gradient: usize,
}

impl WeightGradient {
    /// Divides the weight gradient of a layer that reads a blocked value.
    pub fn new(layer: &Convolution, input: &BlockedShape, gradient: &BlockedShape, set: InstructionSet) -> Self {
        let (kernel, inset) = (layer.kernel, input.border - layer.padding);
        let row_groups = (0..kernel * kernel).map(|element| {
            let offset = element / kernel * input.row_stride() + element % kernel * BLOCK;
            RowGroup { offset, count: BLOCK, element }
        });
        let input_row = |image: usize, y: usize| input.offset(image, y * layer.stride + inset, inset);
        let mut division = WeightGradient::divide(layer, gradient, row_groups.collect(), input_row, set);
        (division.input_step, division.input_block_stride) = (layer.stride * BLOCK, input.block_stride());
        division
    }

    /// Divides the weight gradient of the stem, whose input is an image.
    pub fn for_image(layer: &Convolution, input: &PaddedImage, gradient: &BlockedShape, set: InstructionSet) -> Self {
        let kernel = layer.kernel;
        let row_groups = (0..kernel).map(|y| RowGroup {
            offset: y * input.row_stride(),
            count: kernel * COLOURS,
            element: y * kernel,
        });
        let input_row = |image: usize, y: usize| image * input.image_stride() + y * layer.stride * input.row_stride();
        let mut division = WeightGradient::divide(layer, gradient, row_groups.collect(), input_row, set);
        division.input_step = layer.stride * COLOURS;
        division.reads_image = true;
        division
    }

    fn divide(
        layer: &Convolution,
        gradient: &BlockedShape,
        row_groups: Vec<RowGroup>,
        input_row: impl Fn(usize, usize) -> usize,
        set: InstructionSet,
    ) -> Self {
        let Convolution { out_channels, in_channels, groups, .. } = *layer;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let panel = if groups > 1 && group_out < set.panel() { set.panel().min(BLOCK) } else { set.panel() };
        let blocks = (0..out_channels).step_by(panel).flat_map(|first_output| {
            let last_output = (first_output + panel).min(out_channels) - 1;
            let channels = first_output / group_out * group_in..(last_output / group_out + 1) * group_in;
            let input_blocks = channels.start / BLOCK..channels.end.div_ceil(BLOCK);
            input_blocks.map(move |input_block| ChannelBlock { first_output, input_block })
        });
        let blocks: Vec<_> = blocks.collect();
        let rows = (0..gradient.batch).flat_map(|image| (0..gradient.height).map(move |y| (image, y)));
        let pixel_rows = rows.map(|(image, y)| PixelRow {
            input: input_row(image, y),
            gradient: gradient.offset(image, y + gradient.border, gradient.border),
        });
        let group_count = MIN_TASKS.div_ceil(blocks.len()).min(gradient.batch);
        let groups = (0..group_count).map(|index| {
            let images = split_range(gradient.batch, group_count, index);
            images.start * gradient.height..images.end * gradient.height
        });
        let row_bytes = gradient.width * (BLOCK * layer.stride + panel) * F32_BYTES;
        WeightGradient {
            layer: layer.clone(),
            reads_image: false,
            blocks,
            panel,
            columns: panel / set.lanes(),
            row_groups,
            pixel_rows: pixel_rows.collect(),
            rows_per_chunk: (CHUNK_BYTES / row_bytes).max(1),
            groups: groups.collect(),
            width: gradient.width,
            input_step: 0,
            input_block_stride: 0,
            gradient_block_stride: gradient.block_stride(),
        }
    }

    /// Returns the number of values of temporary memory.
    pub fn scratch_len(&self) -> usize {
        self.groups.len() * self.blocks.len() * self.block_len()
    }

    /// Returns the number of sums of a block.
    fn block_len(&self) -> usize {
        self.row_groups.iter().map(|group| group.count).sum::<usize>() * self.panel
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
        let sums = &mut scratch[..self.scratch_len()];
        let (blocks, block_len) = (self.blocks.len(), self.block_len());
        let shared = SharedMutSlice::new(sums);
        execution.threads.for_each(self.groups.len() * blocks, |task| {
            let (group, block) = (&self.groups[task / blocks], &self.blocks[task % blocks]);
            let rows = &self.pixel_rows[group.clone()];
            execution.set.run(Task {
                division: self,
                block,
                rows,
                input,
                gradient: gradient.values,
                sums: shared,
                at: task * block_len,
            });
        });
        self.add_sums(sums, weight_gradient, execution);
    }

    /// Adds the sums of all groups to the gradient.
    fn add_sums(&self, sums: &[f32], weight_gradient: &mut [f32], execution: Execution) {
        let Convolution { out_channels, in_channels, kernel, groups, .. } = self.layer;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let (area, block_len, group_len) = (kernel * kernel, self.block_len(), self.block_len() * self.blocks.len());
        assert_eq!(weight_gradient.len(), out_channels * group_in * area);
        let target = SharedMutSlice::new(weight_gradient);
        execution.threads.for_each(self.blocks.len(), |index| {
            let ChannelBlock { first_output, input_block } = self.blocks[index];
            let outputs = first_output..(first_output + self.panel).min(out_channels);
            let mut row = index * block_len;
            for group in &self.row_groups {
                for position in 0..group.count {
                    let (channel, element) = if self.reads_image {
                        (position % COLOURS, group.element + position / COLOURS)
                    } else {
                        (input_block * BLOCK + position, group.element)
                    };
                    for (column, out) in outputs.clone().enumerate() {
                        if groups > 1 && channel / group_in != out / group_out {
                            continue;
                        }
                        let parts = (0..self.groups.len()).map(|group| sums[group * group_len + row + column]);
                        let at = (out * group_in + channel % group_in) * area + element;
                        debug_assert!(at < target.len());
                        // SAFETY: `at` lies inside the gradient, whose length is checked above. Blocks have different
                        // pairs of output and input channels, so no other task accesses the value.
                        unsafe { *target.as_mut_ptr().add(at) += parts.sum::<f32>() };
                    }
                    row += self.panel;
                }
            }
        });
    }
}

/// Computes the sums of one block for some rows of pixels.
struct Task<'a> {
    division: &'a WeightGradient,
    block: &'a ChannelBlock,
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
        let Task { division, block, rows, input, gradient, sums, at } = self;
        let WeightGradient { panel, input_step, gradient_block_stride, width, .. } = *division;
        let input_start = block.input_block * division.input_block_stride;
        let gradient_start = block.first_output / BLOCK * gradient_block_stride + block.first_output % BLOCK;
        for (index, rows) in rows.chunks(division.rows_per_chunk).enumerate() {
            let mut at = at;
            for group in &division.row_groups {
                let parts = group.count.div_ceil(S::TILE_ROWS);
                for part in 0..parts {
                    let range = split_range(group.count, parts, part);
                    let operands = Operands {
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
                    run_tile(simd, range.len(), division.columns, operands);
                    at += range.len() * panel;
                }
            }
        }
    }
}

/// Operands of a register tile.
struct Operands<'a> {
    input: &'a [f32],
    input_start: usize,
    input_step: usize,
    gradient: &'a [f32],
    gradient_start: usize,
    gradient_block_stride: usize,
    rows: &'a [PixelRow],
    width: usize,
    sums: SharedMutSlice<'a>,
    at: usize,
    /// Whether the sums start at zero.
    is_first: bool,
}

#[inline(always)]
fn run_tile<S: Simd>(simd: S, rows: usize, columns: usize, operands: Operands) {
    with_rows!(rows, ROWS => match columns {
        1 => simd.vectorize(Tile::<ROWS, 1>(operands)),
        2 => simd.vectorize(Tile::<ROWS, 2>(operands)),
        4 => simd.vectorize(Tile::<ROWS, 4>(operands)),
        columns => unreachable!("no register tile is {columns} vectors wide"),
    });
}

/// A register tile of `ROWS` inputs by `COLUMNS` vectors of output channels.
struct Tile<'a, const ROWS: usize, const COLUMNS: usize>(Operands<'a>);

impl<const ROWS: usize, const COLUMNS: usize> Kernel for Tile<'_, ROWS, COLUMNS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let narrow = COLUMNS < S::TILE_COLUMNS && COLUMNS * S::LANES == BLOCK;
        if ROWS > S::TILE_ROWS || (COLUMNS != S::TILE_COLUMNS && !narrow) {
            unreachable!("the instruction set has no register tile of {ROWS}x{COLUMNS}");
        }
        let Operands { input, input_start, input_step, gradient, gradient_start, rows, width, sums: target, .. } = self.0;
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
                // slices.
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
                            *sum = simd.multiply_add(value, vector, *sum);
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
