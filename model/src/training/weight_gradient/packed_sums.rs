//! Layout of the sums of a weight gradient in blocks of channels, and their addition to the gradient.

use super::super::value::Execution;
use crate::architecture::Convolution;
use crate::engine::cpu::blocked_shape::BLOCK;
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::filter::Filter;
use crate::engine::cpu::padded_image::COLOURS;
use crate::engine::cpu::simd::InstructionSet;
use std::ops::Range;

/// Sums `[blocks, filter elements, 16 input channels, panel]`; the stem has 3 input channels instead of 16.
pub struct PackedSums {
    layer: Convolution,
    pub blocks: Vec<ChannelBlock>,
    /// Number of output channels in a panel.
    pub panel: usize,
}

/// A panel of output channels and a block of input channels that it uses.
pub struct ChannelBlock {
    pub first_output: usize,
    /// Index of the block of input channels.
    pub input_block: usize,
}

impl PackedSums {
    pub fn new(layer: &Convolution, set: InstructionSet) -> Self {
        let filter = Filter::forward(layer);
        let panel = filter.panel(set);
        let blocks = (0..layer.out_channels).step_by(panel).flat_map(|first_output| {
            let channels = filter.input_channels(first_output..first_output + panel);
            let input_blocks = channels.start / BLOCK..channels.end.div_ceil(BLOCK);
            input_blocks.map(move |input_block| ChannelBlock { first_output, input_block })
        });
        PackedSums { layer: layer.clone(), blocks: blocks.collect(), panel }
    }

    /// Returns the ranges of blocks that have the same panel.
    pub fn panels(&self) -> Vec<Range<usize>> {
        let mut first = 0;
        let panels = self.blocks.chunk_by(|a, b| a.first_output == b.first_output);
        panels
            .map(|panel| {
                first += panel.len();
                first - panel.len()..first
            })
            .collect()
    }

    /// Returns the number of input channels in a block.
    pub fn channels(&self) -> usize {
        self.layer.in_channels.min(BLOCK)
    }

    /// Returns the number of sums in a block.
    pub fn block_len(&self) -> usize {
        self.layer.kernel * self.layer.kernel * self.channels() * self.panel
    }

    /// Returns the number of all sums.
    pub fn len(&self) -> usize {
        self.blocks.len() * self.block_len()
    }

    /// Adds sums to `weight_gradient`, `[out_channels, in_channels / groups, kernel, kernel]`. `sums` consists of one or
    /// more arrays, which are added to the first of them.
    pub fn add_to(&self, weight_gradient: &mut [f32], sums: &mut [f32], execution: Execution) {
        let Convolution { out_channels, in_channels, kernel, groups, .. } = self.layer;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let (area, channels, block_len) = (kernel * kernel, self.channels(), self.block_len());
        assert_eq!(weight_gradient.len(), out_channels * group_in * area);
        debug_assert!(in_channels == COLOURS || in_channels.is_multiple_of(BLOCK));
        let target = SharedMutSlice::new(weight_gradient);
        let (sums, others) = sums.split_at_mut(self.len());
        let (sums, others) = (SharedMutSlice::new(sums), &*others);
        execution.threads.for_each(self.blocks.len(), |index| {
            let first = index * block_len;
            // SAFETY: each task accesses its own block, which lies inside the sums.
            let sums = unsafe { std::slice::from_raw_parts_mut(sums.as_mut_ptr().add(first), block_len) };
            for other in others.chunks_exact(self.len()) {
                sums.iter_mut().zip(&other[first..]).for_each(|(sum, other)| *sum += other);
            }
            let ChannelBlock { first_output, input_block } = self.blocks[index];
            let block = input_block * BLOCK..input_block * BLOCK + channels;
            for out in first_output..(first_output + self.panel).min(out_channels) {
                let of_group = out / group_out * group_in..(out / group_out + 1) * group_in;
                let of_both = block.start.max(of_group.start)..block.end.min(of_group.end);
                let first = (out * group_in + of_both.start - of_group.start) * area;
                debug_assert!(first + of_both.len() * area <= target.len());
                // SAFETY: the gradients of these channels are adjacent, and lie inside the gradient, whose length is
                // checked above. Blocks have different pairs of output and input channels, so no other task accesses
                // them.
                let target =
                    unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(first), of_both.len() * area) };
                for (target, channel) in target.chunks_exact_mut(area).zip(of_both) {
                    let sums = &sums[(channel - block.start) * self.panel + out - first_output..];
                    for (element, target) in target.iter_mut().enumerate() {
                        *target += sums[element * channels * self.panel];
                    }
                }
            }
        });
    }
}
