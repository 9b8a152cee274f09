//! Weights of a convolution, in bf16 and in the order in which tiles are multiplied.

use super::super::algorithm::Algorithm;
use super::super::bf16_pairs;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::{AlignedBuffer, SharedMutSlice};
use super::super::direct_conv::PanelLayout;
use super::super::filter::Filter;
use super::super::simd::{InstructionSet, MatrixUnit, TILE};
use super::super::thread_pool::ThreadPool;
use crate::architecture::Convolution;

/// Number of output channels that are computed together.
pub const PANEL: usize = 2 * TILE;

/// Packed weights, `[panels, filter elements, input channels / 2, panel]` in pairs of channels. The input channels are
/// padded with zeros to a multiple of 32.
pub struct AmxWeights {
    pub(super) packed: AlignedBuffer,
    pub(super) layout: PanelLayout,
    pub(super) unit: MatrixUnit,
}

impl AmxWeights {
    /// Returns whether tiles can compute a convolution with this filter.
    pub fn supports(filter: &Filter) -> bool {
        filter.groups == 1 && filter.in_channels.is_multiple_of(BLOCK) && !filter.elements.is_empty()
    }

    /// Creates packed weights of a filter, all of which are zero.
    pub fn zeroed(filter: Filter, unit: MatrixUnit) -> Self {
        let layout = PanelLayout::for_tiles(filter, PANEL);
        let packed = AlignedBuffer::zeroed(layout.panels() * layout.panel_len() / 2);
        AmxWeights { packed, layout, unit }
    }

    /// Packs `weight`, `[out_channels, in_channels, kernel, kernel]`.
    pub fn pack(weight: &[f32], layer: &Convolution, unit: MatrixUnit, set: InstructionSet) -> Self {
        let mut weights = AmxWeights::zeroed(Filter::forward(layer), unit);
        let packed_len = weights.layout.panel_len() / 2;
        for (index, packed) in weights.packed.chunks_exact_mut(packed_len).enumerate() {
            pack_panel(&weights.layout, index, weight, packed, set);
        }
        weights
    }

    /// Replaces the weights by `weight`, the layer's `[out_channels, in_channels, kernel, kernel]`. Must be called
    /// within [`ThreadPool::install`].
    pub fn replace(&mut self, weight: &[f32], set: InstructionSet, threads: &ThreadPool) {
        assert_eq!(weight.len(), self.layout.filter.weight_len());
        let AmxWeights { packed, layout, .. } = self;
        let packed_len = layout.panel_len() / 2;
        let packed = SharedMutSlice::new(packed);
        threads.for_each(layout.panels(), |index| {
            // SAFETY: there are `panels` panels of this length, and each task writes its own.
            let packed =
                unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().add(index * packed_len), packed_len) };
            pack_panel(layout, index, weight, packed, set);
        });
    }

    pub fn algorithm(&self) -> Algorithm {
        Algorithm::AmxBf16
    }

    /// Returns the size of the packed weights in units of four bytes.
    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    /// Returns the number of multiply-adds that are executed to compute an output.
    pub fn multiply_adds(&self, output: &BlockedShape) -> usize {
        output.pixels() * self.packed.len() * 2
    }
}

/// Packs panel number `index`.
fn pack_panel(layout: &PanelLayout, index: usize, weight: &[f32], packed: &mut [f32], set: InstructionSet) {
    let mut panel = vec![0.0; layout.panel_len()];
    layout.pack_panel(index, weight, &mut panel);
    bf16_pairs::pack_row_pairs(&panel, layout.panel, packed, set);
}
