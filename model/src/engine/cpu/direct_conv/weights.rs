//! Weights of a direct convolution, packed in the order in which the microkernel reads them.

use super::super::algorithm::Algorithm;
use super::super::bf16_pairs;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::{AlignedBuffer, SharedMutSlice};
use super::super::filter::Filter;
use super::super::padded_image::COLOURS;
use super::super::simd::InstructionSet;
use super::super::thread_pool::ThreadPool;
use crate::architecture::Convolution;

/// Packed weights, `[panels, runs, run length, panel]`: a panel holds the output channels of one register tile, a run
/// is a stretch of adjacent inputs.
pub struct DirectWeights {
    pub(super) packed: AlignedBuffer,
    pub(super) layout: PanelLayout,
    pub(super) input_format: InputFormat,
}

/// Layout of packed f32 weights.
pub struct PanelLayout {
    pub filter: Filter,
    /// Number of blocks of input channels that a panel of output channels reads.
    pub blocks: usize,
    /// First of these blocks, for each panel.
    pub first_blocks: Vec<usize>,
    /// Number of input channels that a panel reads: whole blocks, or the colours of an image.
    pub depth: usize,
    /// Number of output channels in a panel.
    pub panel: usize,
    /// Number of vectors in a panel.
    pub columns: usize,
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
        let mut weights = DirectWeights::zeroed(Filter::forward(layer), reads_image, set);
        let panel_len = weights.layout.panel_len();
        for (index, packed) in weights.packed.chunks_exact_mut(panel_len).enumerate() {
            weights.layout.pack_panel(index, weight, packed);
        }
        weights
    }

    /// Creates packed weights of a filter, all of which are zero.
    pub fn zeroed(filter: Filter, reads_image: bool, set: InstructionSet) -> Self {
        let layout = PanelLayout::new(filter, reads_image, set);
        let packed = AlignedBuffer::zeroed(layout.panels() * layout.panel_len());
        DirectWeights {
            packed,
            layout,
            input_format: if reads_image { InputFormat::Rgb } else { InputFormat::Blocked },
        }
    }

    /// Creates packed weights of a filter for products in bf16, all of which are zero.
    pub fn zeroed_pairs(filter: Filter, set: InstructionSet) -> Self {
        let layout = PanelLayout::new(filter, false, set);
        let packed = AlignedBuffer::zeroed(layout.panels() * layout.panel_len() / 2);
        DirectWeights { packed, layout, input_format: InputFormat::Bf16Pairs }
    }

    /// Replaces the weights by `weight`, the layer's `[out_channels, in_channels / groups, kernel, kernel]`. Must be
    /// called within [`ThreadPool::install`].
    pub fn replace(&mut self, weight: &[f32], set: InstructionSet, threads: &ThreadPool) {
        assert_eq!(weight.len(), self.layout.filter.weight_len());
        let (panels, panel_len) = (self.panels(), self.layout.panel_len());
        let packed_len = panel_len / self.values_per_word();
        let DirectWeights { packed, layout, input_format } = self;
        let packed = SharedMutSlice::new(packed);
        threads.for_each(panels, |index| {
            // SAFETY: there are `panels` panels of this length, and each task writes its own.
            let packed =
                unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().add(index * packed_len), packed_len) };
            match input_format {
                InputFormat::Blocked | InputFormat::Rgb => layout.pack_panel(index, weight, packed),
                InputFormat::Bf16Pairs => {
                    let mut panel = vec![0.0; panel_len];
                    layout.pack_panel(index, weight, &mut panel);
                    bf16_pairs::pack_row_pairs(&panel, layout.panel, packed, set);
                }
            }
        });
    }

    /// Packs `weight` like [`pack`](Self::pack), for products in bf16.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn pack_pairs(weight: &[f32], layer: &Convolution, set: InstructionSet) -> Self {
        let weights = DirectWeights::pack(weight, layer, false, set);
        let mut packed = AlignedBuffer::zeroed(weights.packed.len() / 2);
        bf16_pairs::pack_row_pairs(&weights.packed, weights.layout.panel, &mut packed, set);
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
        self.layout.panels()
    }
}

impl PanelLayout {
    fn new(filter: Filter, reads_image: bool, set: InstructionSet) -> Self {
        let panel = filter.panel(set);
        PanelLayout::with_panel(filter, reads_image, panel, panel / set.lanes())
    }

    /// Returns the layout with panels of `panel` output channels.
    pub fn for_tiles(filter: Filter, reads_image: bool, panel: usize) -> Self {
        PanelLayout::with_panel(filter, reads_image, panel, panel / BLOCK)
    }

    fn with_panel(filter: Filter, reads_image: bool, panel: usize, columns: usize) -> Self {
        let panels = (0..filter.out_channels).step_by(panel);
        let channels: Vec<_> = panels.map(|first| filter.input_channels(first..first + panel)).collect();
        let blocks = channels.iter().map(|channels| channels.end.div_ceil(BLOCK) - channels.start / BLOCK);
        let blocks = blocks.max().expect("a convolution has output channels");
        let first_blocks = channels.iter().map(|channels| channels.start / BLOCK).collect();
        let depth = if reads_image { COLOURS } else { blocks * BLOCK };
        PanelLayout { filter, blocks, first_blocks, depth, panel, columns }
    }

    /// Returns the number of panels.
    pub fn panels(&self) -> usize {
        self.first_blocks.len()
    }

    /// Returns the number of values of a panel.
    pub fn panel_len(&self) -> usize {
        self.filter.elements.len() * self.depth * self.panel
    }

    /// Packs panel number `index`. Values between groups and beyond the last channel are left unchanged.
    pub fn pack_panel(&self, index: usize, weight: &[f32], packed: &mut [f32]) {
        let PanelLayout { ref filter, depth, panel, .. } = *self;
        let outputs = index * panel..((index + 1) * panel).min(filter.out_channels);
        let first_channel = self.first_blocks[index] * BLOCK;
        let (group_in, group_out) = (filter.in_channels / filter.groups, filter.out_channels / filter.groups);
        let mut columns = Vec::new();
        for group in outputs.start / group_out..=(outputs.end - 1) / group_out {
            let outputs = (group * group_out).max(outputs.start)..((group + 1) * group_out).min(outputs.end);
            let first_column = outputs.start - index * panel;
            let channels = group * group_in..(group + 1) * group_in;
            // For a block of channels at a time, reads and writes stay in the first-level cache.
            for first in channels.clone().step_by(BLOCK) {
                let count = BLOCK.min(channels.end - first);
                columns.resize(count * filter.area() * outputs.len(), 0.0);
                filter.copy_weights(weight, outputs.clone(), first, &mut columns, outputs.len());
                for (channel, columns) in columns.chunks_exact(filter.area() * outputs.len()).enumerate() {
                    for (position, element) in filter.elements.iter().enumerate() {
                        let row = position * depth + first + channel - first_channel;
                        let packed = &mut packed[row * panel + first_column..][..outputs.len()];
                        packed.copy_from_slice(&columns[element.index * outputs.len()..][..outputs.len()]);
                    }
                }
            }
        }
    }
}
