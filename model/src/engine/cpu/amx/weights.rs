//! Weights of a convolution, in bf16 and in the order in which tiles are multiplied.

use super::super::algorithm::Algorithm;
use super::super::bf16_pairs;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::{AlignedBuffer, SharedMutSlice};
use super::super::direct_conv::PanelLayout;
use super::super::filter::Filter;
use super::super::padded_image::COLOURS;
use super::super::simd::{InstructionSet, MatrixUnit, TILE, TILE_PAIRS};
use super::super::thread_pool::ThreadPool;
use crate::architecture::Convolution;

/// Number of output channels that are computed together.
pub const PANEL: usize = 2 * TILE;

/// Packed weights, `[panels, runs, values of a run / 2, panel]` in pairs of values. A run is the input channels of a
/// filter element, or in the stem one row of the filter window, padded with zeros to a multiple of 32 values.
pub struct AmxWeights {
    pub(super) packed: AlignedBuffer,
    pub(super) layout: PanelLayout,
    pub(super) unit: MatrixUnit,
    /// Number of values of a run before and after padding.
    run_len: usize,
    padded_run_len: usize,
}

impl AmxWeights {
    /// Returns whether tiles can compute a convolution with this filter.
    pub fn supports(filter: &Filter) -> bool {
        filter.groups == 1 && filter.in_channels.is_multiple_of(BLOCK) && !filter.elements.is_empty()
    }

    /// Creates packed weights of a filter, all of which are zero. `reads_image` is set if the layer reads a
    /// [`PaddedImage`](super::super::padded_image::PaddedImage) instead of a blocked value.
    pub fn zeroed(filter: Filter, reads_image: bool, unit: MatrixUnit) -> Self {
        let run_len = if reads_image { filter.elements.len().isqrt() * COLOURS } else { filter.in_channels };
        let layout = PanelLayout::for_tiles(filter, reads_image, PANEL);
        let padded_run_len = run_len.next_multiple_of(2 * TILE_PAIRS);
        let mut weights = AmxWeights { packed: AlignedBuffer::default(), layout, unit, run_len, padded_run_len };
        weights.packed = AlignedBuffer::zeroed(weights.layout.panels() * weights.panel_len());
        weights
    }

    /// Returns the number of pairs of a panel.
    pub(super) fn panel_len(&self) -> usize {
        self.layout.panel_len() / self.run_len * self.padded_run_len / 2
    }

    /// Packs `weight`, `[out_channels, in_channels, kernel, kernel]`.
    pub fn pack(weight: &[f32], layer: &Convolution, reads_image: bool, unit: MatrixUnit, set: InstructionSet) -> Self {
        let mut weights = AmxWeights::zeroed(Filter::forward(layer), reads_image, unit);
        let mut packed = std::mem::take(&mut weights.packed);
        for (index, packed) in packed.chunks_exact_mut(weights.panel_len()).enumerate() {
            weights.pack_panel(index, weight, packed, set);
        }
        AmxWeights { packed, ..weights }
    }

    /// Replaces the weights by `weight`, the layer's `[out_channels, in_channels, kernel, kernel]`. Must be called
    /// within [`ThreadPool::install`].
    pub fn replace(&mut self, weight: &[f32], set: InstructionSet, threads: &ThreadPool) {
        assert_eq!(weight.len(), self.layout.filter.weight_len());
        let mut packed = std::mem::take(&mut self.packed);
        let (panel_len, shared) = (self.panel_len(), SharedMutSlice::new(&mut packed));
        threads.for_each(self.layout.panels(), |index| {
            // SAFETY: there are `panels` panels of this length, and each task writes its own.
            let panel =
                unsafe { std::slice::from_raw_parts_mut(shared.as_mut_ptr().add(index * panel_len), panel_len) };
            self.pack_panel(index, weight, panel, set);
        });
        self.packed = packed;
    }

    /// Packs panel number `index`.
    fn pack_panel(&self, index: usize, weight: &[f32], packed: &mut [f32], set: InstructionSet) {
        let mut panel = vec![0.0; self.layout.panel_len()];
        self.layout.pack_panel(index, weight, &mut panel);
        let mut padded = vec![0.0; 2 * packed.len()];
        let runs = panel.chunks_exact(self.run_len * PANEL);
        for (padded, run) in padded.chunks_exact_mut(self.padded_run_len * PANEL).zip(runs) {
            padded[..run.len()].copy_from_slice(run);
        }
        bf16_pairs::pack_row_pairs(&padded, PANEL, packed, set);
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
