//! Weights of a direct convolution, packed in the order in which the microkernel reads them.

use super::super::algorithm::Algorithm;
use super::super::bf16_pairs;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::AlignedBuffer;
use super::super::padded_image::COLOURS;
use super::super::simd::InstructionSet;
use crate::architecture::Convolution;

/// Packed weights, `[panels, runs, run length, panel]`: a panel holds the output channels of one register tile, a run
/// is a stretch of adjacent inputs.
pub struct DirectWeights {
    pub(super) packed: AlignedBuffer,
    pub(super) input_format: InputFormat,
    pub(super) stride: usize,
    pub(super) kernel: usize,
    pub(super) padding: usize,
    /// Number of blocks of input channels that a panel of output channels reads.
    pub(super) blocks: usize,
    /// First of these blocks, for each panel.
    pub(super) first_blocks: Vec<usize>,
    /// Number of output channels in a panel.
    pub(super) panel: usize,
    /// Number of vectors in a panel.
    pub(super) columns: usize,
}

/// Layout of the inputs in memory.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum InputFormat {
    /// f32 in blocks of channels. A run is the 16 channels of one pixel; adjacent outputs read inputs that lie 16 times
    /// the stride apart.
    Blocked,
    /// bf16 in blocks of channels. A run is 8 pairs of channels; adjacent outputs read inputs that lie 8 times the
    /// stride apart.
    Bf16Pairs,
    /// A [`PaddedImage`](super::super::padded_image::PaddedImage). A run is one row of the filter window with three
    /// colours per pixel.
    Rgb,
}

impl DirectWeights {
    /// Packs `weight`, `[out_channels, in_channels / groups, kernel, kernel]`. `reads_image` is set if the layer reads
    /// a [`PaddedImage`](super::super::padded_image::PaddedImage) instead of a blocked value.
    pub fn pack(weight: &[f32], layer: &Convolution, reads_image: bool, set: InstructionSet) -> Self {
        let Convolution { out_channels, in_channels, kernel, stride, padding, groups, .. } = *layer;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        // In a grouped convolution, a panel covers whole groups and multiplies by zeros between them. Narrow panels
        // have fewer of these zeros.
        let panel = if groups > 1 && group_out < set.panel() { set.panel().min(BLOCK) } else { set.panel() };
        let panels = out_channels.div_ceil(panel);
        let columns = panel / set.lanes();
        let input_channels = |panel_index: usize| {
            let first = panel_index * panel;
            let last = (first + panel).min(out_channels) - 1;
            first / group_out * group_in..(last / group_out + 1) * group_in
        };
        let first_blocks: Vec<usize> = (0..panels).map(|panel| input_channels(panel).start / BLOCK).collect();
        let blocks =
            (0..panels).map(|panel| input_channels(panel).end.div_ceil(BLOCK) - input_channels(panel).start / BLOCK);
        let blocks = blocks.max().expect("a convolution has output channels");

        let input_format = if reads_image { InputFormat::Rgb } else { InputFormat::Blocked };
        let depth = if reads_image { COLOURS } else { blocks * BLOCK };
        let mut packed = AlignedBuffer::zeroed(panels * kernel * kernel * depth * panel);
        for (index, packed) in packed.chunks_exact_mut(kernel * kernel * depth * panel).enumerate() {
            let channels = input_channels(index);
            let first_channel = if reads_image { 0 } else { first_blocks[index] * BLOCK };
            for position in 0..kernel * kernel {
                for channel in channels.clone() {
                    let row = position * depth + channel - first_channel;
                    for column in 0..panel.min(out_channels - index * panel) {
                        let out = index * panel + column;
                        let first_of_group = out / group_out * group_in;
                        if (first_of_group..first_of_group + group_in).contains(&channel) {
                            let at = (out * group_in + channel - first_of_group) * kernel * kernel + position;
                            packed[row * panel + column] = weight[at];
                        }
                    }
                }
            }
        }
        DirectWeights { packed, input_format, stride, kernel, padding, blocks, first_blocks, panel, columns }
    }

    /// Packs `weight` like [`pack`](Self::pack), for products in bf16.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn pack_pairs(weight: &[f32], layer: &Convolution, set: InstructionSet) -> Self {
        assert!(set.has_bf16_pairs());
        let weights = DirectWeights::pack(weight, layer, false, set);
        let packed = bf16_pairs::pack_row_pairs(&weights.packed, weights.panel);
        DirectWeights { packed, input_format: InputFormat::Bf16Pairs, ..weights }
    }

    /// Returns the size of the packed weights in units of four bytes.
    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.input_format {
            InputFormat::Blocked | InputFormat::Rgb => Algorithm::Direct,
            InputFormat::Bf16Pairs => Algorithm::DirectBf16,
        }
    }

    /// Returns the number of multiply-adds that are executed to compute an output.
    pub fn multiply_adds(&self, output: &BlockedShape) -> usize {
        output.pixels() * self.packed.len() * self.values_per_word()
    }

    /// Returns the number of weights or inputs in 32 bits.
    pub(super) fn values_per_word(&self) -> usize {
        match self.input_format {
            InputFormat::Blocked | InputFormat::Rgb => 1,
            InputFormat::Bf16Pairs => 2,
        }
    }

    pub(super) fn panels(&self) -> usize {
        self.first_blocks.len()
    }
}
