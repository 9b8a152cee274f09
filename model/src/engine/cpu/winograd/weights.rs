//! Filters transformed by `G g G^T` and packed in the order in which the microkernel reads them.

use super::super::algorithm::Algorithm;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::AlignedBuffer;
use super::super::simd::InstructionSet;
use crate::engine::winograd::{MAX_ALPHA, WinogradVariant};
use crate::plan::FoldedConvolution;

/// Width of the widest panel.
const MAX_PANEL: usize = 32;

/// Transformed and packed weights, `[panels, elements of a transformed filter, in_channels, panel]`.
pub struct WinogradWeights {
    pub(super) packed: AlignedBuffer,
    pub(super) variant: WinogradVariant,
    /// Number of blocks of input channels.
    pub(super) in_blocks: usize,
    /// Number of panels of output channels.
    pub(super) panels: usize,
    /// Number of output channels in a panel.
    pub(super) panel: usize,
}

impl WinogradWeights {
    /// Transforms and packs the weights of a convolution.
    pub fn pack(convolution: &FoldedConvolution, variant: WinogradVariant, set: InstructionSet) -> Self {
        let [out_channels, in_channels, ..] = convolution.layer.weight_shape();
        let panel = set.panel();
        WinogradWeights {
            packed: transform(convolution, variant, panel),
            variant,
            in_blocks: in_channels.div_ceil(BLOCK),
            panels: out_channels.div_ceil(panel),
            panel,
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Winograd(self.variant)
    }

    /// Returns the size of the packed weights in f32 values.
    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    /// Returns the number of multiply-adds that are executed to compute an output, without those of the transforms.
    pub fn multiply_adds(&self, output: &BlockedShape) -> usize {
        let channel_pairs = self.packed.len() / self.variant.filter_elements();
        let [rows, columns] = [output.height, output.width].map(|side| self.variant.multiplications(side));
        output.batch * rows * columns * channel_pairs
    }

    /// Returns α of a full tile.
    pub(super) fn alpha(&self) -> usize {
        self.variant.alpha(self.variant.m)
    }

    /// Returns the number of elements of a transformed full tile, α×α.
    pub(super) fn elements(&self) -> usize {
        self.alpha() * self.alpha()
    }
}

/// Computes `G g G^T` for each pair of channels. Input channels are padded with zeros to whole blocks, output channels
/// to whole panels.
fn transform(convolution: &FoldedConvolution, variant: WinogradVariant, panel: usize) -> AlignedBuffer {
    let [out_channels, in_channels, ..] = convolution.layer.weight_shape();
    let depth = in_channels.next_multiple_of(BLOCK);
    let side = variant.filter_side();
    let elements = side * side;
    let mut packed = AlignedBuffer::zeroed(out_channels.div_ceil(panel) * elements * depth * panel);
    let transform = variant.filter_transform();
    for (index, packed) in packed.chunks_exact_mut(elements * depth * panel).enumerate() {
        let columns = panel.min(out_channels - index * panel);
        for channel in 0..in_channels {
            // `[filter element][output channel of the panel]`, so that the loops below run over adjacent values.
            let mut filters = [[0.0; MAX_PANEL]; 9];
            for column in 0..columns {
                let at = ((index * panel + column) * in_channels + channel) * 9;
                for (element, &weight) in filters.iter_mut().zip(&convolution.weight[at..at + 9]) {
                    element[column] = f64::from(weight);
                }
            }
            let mut rows = [[[0.0; MAX_PANEL]; 3]; MAX_ALPHA];
            for (row, factors) in rows.iter_mut().zip(&transform[..side]) {
                for (x, sums) in row.iter_mut().enumerate() {
                    for (y, factor) in factors.iter().enumerate() {
                        for (sum, weight) in sums[..columns].iter_mut().zip(&filters[y * 3 + x]) {
                            *sum += factor * weight;
                        }
                    }
                }
            }
            for (y, row) in rows[..side].iter().enumerate() {
                for (x, factors) in transform[..side].iter().enumerate() {
                    let at = ((y * side + x) * depth + channel) * panel;
                    for (column, packed) in packed[at..at + columns].iter_mut().enumerate() {
                        let sum = factors.iter().zip(row).map(|(factor, row)| factor * row[column]).sum::<f64>();
                        *packed = sum as f32;
                    }
                }
            }
        }
    }
    packed
}
