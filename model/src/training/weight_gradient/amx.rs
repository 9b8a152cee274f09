//! Gradient of a convolution's weights as products of [tiles of bf16](crate::engine::cpu::simd::MatrixUnit): for each
//! filter element, the gradients of 16 output channels, its rows, times the inputs of 16 input channels, its columns.
//!
//! The sums are over pixels, so pairs consist of the values of two adjacent images, and the gradients are transposed to
//! rows of pixels. Pixels are read in chunks that fit into the first-level cache, where all filter elements use them. If
//! a layer has few channels, the rows of pixels are divided into groups whose sums are added at the end. Groups and
//! chunks depend only on the shape, so results do not depend on the number of threads.

use super::super::algorithm_choice::tiles_support_weights;
use super::super::value::{Execution, Value};
use super::transposed_gradient::TransposedGradient;
use crate::architecture::Convolution;
use crate::engine::cpu::amx::lines::{LineContent, Lines, lines_per_group};
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::microkernel::split_range;
use crate::engine::cpu::simd::{MatrixUnit, TILE, TILE_PAIRS, TileProduct, TileStep, TileSteps, Tiles};
use std::ops::Range;

/// Number of channels on each side of the sums that are computed together.
const CHANNELS: usize = 2 * TILE;
/// Number of sums that are computed together for a filter element, `[output channels, input channels]`.
const SUMS: usize = CHANNELS * CHANNELS;
/// Maximum number of elements of a filter.
const MAX_ELEMENTS: usize = 9;
/// Number of steps, of 32 pixels each, in a chunk: 32 kB of inputs and gradients.
const STEPS_PER_CHUNK: usize = 8;
/// Number of tasks that a layer is divided into, if its batch is large enough, so that many threads have work.
const MIN_TASKS: usize = 32;

/// The division of a weight gradient into tasks and chunks, for values of one shape.
pub struct AmxWeightGradient {
    layer: Convolution,
    unit: MatrixUnit,
    input: Lines,
    gradient: TransposedGradient,
    /// Offset of the inputs of each filter element.
    elements: Vec<usize>,
    /// Steps of each group of rows of pixels, which are summed up independently.
    groups: Vec<TileSteps>,
}

impl AmxWeightGradient {
    /// Divides the weight gradient of a layer that reads a blocked value.
    pub fn new(layer: &Convolution, input: &BlockedShape, gradient: &BlockedShape, unit: MatrixUnit) -> Self {
        assert!(tiles_support_weights(layer));
        let Convolution { kernel, stride, in_channels, out_channels, padding, .. } = *layer;
        let inset = input.border - padding;
        let pairs = lines_per_group(gradient.width, gradient.batch.div_ceil(2), TILE_PAIRS);
        let height = gradient.height;
        let (input, gradient) =
            (Lines::new(input, LineContent::Images, stride, pairs), TransposedGradient::new(gradient, pairs));
        let elements = (0..kernel * kernel).map(|element| {
            (inset + element / kernel) * input.row_stride() + input.column_offset(inset + element % kernel)
        });
        let channel_blocks = in_channels.div_ceil(CHANNELS) * out_channels.div_ceil(CHANNELS);
        let group_count = MIN_TASKS.div_ceil(channel_blocks).min(gradient.rows());
        let groups = (0..group_count).map(|index| {
            let rows = split_range(gradient.rows(), group_count, index);
            let tiles = rows.flat_map(|row| (0..gradient.tiles_per_row()).map(move |tile| (row, tile)));
            let steps = tiles.map(|(row, tile)| {
                let row_of_input = row / height * input.group_stride() + row % height * stride * input.row_stride();
                TileStep::new(gradient.tile_offset(row, tile), row_of_input + tile * TILE * TILE_PAIRS)
            });
            TileSteps::new(steps.collect())
        });
        AmxWeightGradient {
            layer: layer.clone(),
            unit,
            elements: elements.collect(),
            groups: groups.collect(),
            input,
            gradient,
        }
    }

    /// Returns the number of values of temporary memory.
    pub fn scratch_len(&self) -> usize {
        self.sums_len() + self.input.len() + self.gradient.len()
    }

    /// Returns the numbers of blocks of output and input channels.
    fn channel_blocks(&self) -> [usize; 2] {
        [self.layer.out_channels, self.layer.in_channels].map(|channels| channels.div_ceil(CHANNELS))
    }

    /// Returns the number of sums in memory: those of all groups if there are several.
    fn sums_len(&self) -> usize {
        let [outputs, inputs] = self.channel_blocks();
        if self.groups.len() == 1 { 0 } else { self.groups.len() * outputs * inputs * self.elements.len() * SUMS }
    }

    /// Adds the gradient to `weight_gradient`, `[out_channels, in_channels, kernel, kernel]`. `scratch` has room for
    /// [`scratch_len`](Self::scratch_len) values.
    pub fn run(
        &self,
        input: &[f32],
        gradient: Value,
        weight_gradient: &mut [f32],
        scratch: &mut [f32],
        execution: Execution,
    ) {
        let Execution { set, threads } = execution;
        let Convolution { out_channels, in_channels, .. } = self.layer;
        assert_eq!(weight_gradient.len(), out_channels * in_channels * self.elements.len());
        let (sums, rest) = scratch[..self.scratch_len()].split_at_mut(self.sums_len());
        let (lines, transposed) = rest.split_at_mut(self.input.len());
        self.input.round(input, lines, set, threads);
        self.gradient.round(gradient, transposed, execution);
        let (lines, transposed) = (&*lines, &*transposed);
        let target = SharedMutSlice::new(weight_gradient);
        let [outputs, inputs] = self.channel_blocks();
        let (blocks, block_len) = (outputs * inputs, self.elements.len() * SUMS);
        let shared = SharedMutSlice::new(&mut *sums);
        threads.for_each(self.groups.len() * blocks, |task| {
            let (group, block) = (task / blocks, task % blocks);
            let mut block_sums = BlockSums([0.0; MAX_ELEMENTS * SUMS]);
            let block_sums = &mut block_sums.0[..block_len];
            let tiles = self.unit.configure_tiles();
            let channels = [block / inputs, block % inputs];
            self.sum_block(&tiles, &self.groups[group], channels, lines, transposed, block_sums);
            drop(tiles);
            if self.groups.len() == 1 {
                // SAFETY: tasks have different blocks.
                unsafe { self.add_block(channels, block_sums, target) };
            } else {
                let at = task * block_len;
                // SAFETY: there are sums of this length for each task, which only this task writes.
                unsafe { std::slice::from_raw_parts_mut(shared.as_mut_ptr().add(at), block_len) }
                    .copy_from_slice(block_sums);
            }
        });
        if self.groups.len() > 1 {
            let sums = &*sums;
            threads.for_each(blocks, |block| {
                let mut total = sums[block * block_len..][..block_len].to_vec();
                for sums in sums.chunks_exact(blocks * block_len).skip(1) {
                    total.iter_mut().zip(&sums[block * block_len..]).for_each(|(total, sum)| *total += sum);
                }
                // SAFETY: tasks have different blocks.
                unsafe { self.add_block([block / inputs, block % inputs], &total, target) };
            });
        }
    }

    /// Computes the sums of a block of output and input channels, `[filter elements, 32, 32]`.
    fn sum_block(
        &self,
        tiles: &Tiles,
        steps: &TileSteps,
        [output, input]: [usize; 2],
        lines: &[f32],
        gradient: &[f32],
        sums: &mut [f32],
    ) {
        let sums = SharedMutSlice::new(sums);
        // If a block has only 16 channels, the sums of the others are not used.
        let pair = |first: usize, blocks: usize| [first, (first + 1).min(blocks - 1)];
        let rows = pair(2 * output, self.gradient.blocks()).map(|block| self.gradient.block_offset(block));
        let columns = pair(2 * input, self.input.planes()).map(|plane| plane * self.input.plane_stride());
        for first in (0..steps.len()).step_by(STEPS_PER_CHUNK) {
            let range: Range<usize> = first..(first + STEPS_PER_CHUNK).min(steps.len());
            for (element, offset) in self.elements.iter().enumerate() {
                let product = TileProduct {
                    steps,
                    range: range.clone(),
                    rows: gradient,
                    rows_start: rows,
                    row_stride: TILE_PAIRS,
                    columns: lines,
                    columns_start: columns.map(|start| start + offset),
                    column_stride: TILE_PAIRS,
                    sums,
                    sums_start: [0, TILE].map(|row| element * SUMS + row * CHANNELS),
                    sums_stride: CHANNELS,
                    accumulate: first > 0,
                };
                // SAFETY: the sums are borrowed mutably.
                unsafe { tiles.multiply(&product) };
            }
        }
    }

    /// Adds the sums of a block of output and input channels to the weight gradient.
    ///
    /// # Safety
    /// No other thread accesses the gradients of these channels at the same time.
    unsafe fn add_block(&self, [output, input]: [usize; 2], sums: &[f32], target: SharedMutSlice) {
        let Convolution { out_channels, in_channels, .. } = self.layer;
        let area = self.elements.len();
        let inputs = input * CHANNELS..((input + 1) * CHANNELS).min(in_channels);
        for (row, out) in (output * CHANNELS..((output + 1) * CHANNELS).min(out_channels)).enumerate() {
            let first = (out * in_channels + inputs.start) * area;
            debug_assert!(first + inputs.len() * area <= target.len());
            // SAFETY: `run` checks the length of the gradient, of which these are the weights of one output channel. The
            // caller guarantees that no other thread accesses them.
            let target = unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(first), inputs.len() * area) };
            for (column, target) in target.chunks_exact_mut(area).enumerate() {
                for (target, sums) in target.iter_mut().zip(sums.chunks_exact(SUMS)) {
                    *target += sums[row * CHANNELS + column];
                }
            }
        }
    }
}

/// Sums of a block of output and input channels.
#[repr(align(64))]
struct BlockSums([f32; MAX_ELEMENTS * SUMS]);
