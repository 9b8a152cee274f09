//! Filters transformed by `G g G^T` and packed in the order in which the microkernel reads them.

use super::super::algorithm::Algorithm;
use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::{AlignedBuffer, SharedMutSlice};
use super::super::filter::Filter;
use super::super::simd::{InstructionSet, Kernel, Simd};
use super::super::thread_pool::ThreadPool;
use crate::engine::winograd::WinogradVariant;
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
        let filter = Filter::forward(&convolution.layer);
        let mut weights = WinogradWeights::zeroed(&filter, variant, set);
        let panel_len = weights.panel_len();
        for (index, packed) in weights.packed.chunks_exact_mut(panel_len).enumerate() {
            let (filter, weight, panel) = (&filter, &convolution.weight, weights.panel);
            set.run(TransformPanel { filter, weight, variant, index, panel, packed });
        }
        weights
    }

    /// Creates packed weights of a filter, all of which are zero.
    pub fn zeroed(filter: &Filter, variant: WinogradVariant, set: InstructionSet) -> Self {
        assert!(filter.elements.len() == 9 && filter.groups == 1 && filter.padding == 1);
        let (in_blocks, panel) = (filter.in_channels.div_ceil(BLOCK), set.panel());
        let panels = filter.out_channels.div_ceil(panel);
        let length = panels * variant.filter_elements() * in_blocks * BLOCK * panel;
        WinogradWeights { packed: AlignedBuffer::zeroed(length), variant, in_blocks, panels, panel }
    }

    /// Replaces the weights by `weight`, the layer's `[out_channels, in_channels, 3, 3]`. Must be called within
    /// [`ThreadPool::install`].
    pub fn replace(&mut self, filter: &Filter, weight: &[f32], set: InstructionSet, threads: &ThreadPool) {
        assert_eq!(weight.len(), filter.weight_len());
        let (panel_len, variant, panel) = (self.panel_len(), self.variant, self.panel);
        let packed = SharedMutSlice::new(&mut self.packed);
        threads.for_each(self.panels, |index| {
            // SAFETY: there are `panels` panels of this length, and each task writes its own.
            let packed =
                unsafe { std::slice::from_raw_parts_mut(packed.as_mut_ptr().add(index * panel_len), panel_len) };
            set.run(TransformPanel { filter, weight, variant, index, panel, packed });
        });
    }

    /// Returns the number of values of a panel.
    fn panel_len(&self) -> usize {
        self.packed.len() / self.panels
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

/// Computes `G g G^T` for each pair of channels of panel number `index`, and writes it to `packed`. Values beyond the
/// last channel are zero.
struct TransformPanel<'a> {
    filter: &'a Filter,
    weight: &'a [f32],
    variant: WinogradVariant,
    index: usize,
    panel: usize,
    packed: &'a mut [f32],
}

/// A value for each output channel of a panel. Unused ones are zero.
type Columns = [f64; MAX_PANEL];

impl Kernel for TransformPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let TransformPanel { filter, weight, variant, index, panel, packed } = self;
        let depth = filter.in_channels.next_multiple_of(BLOCK);
        let side = variant.filter_side();
        let transform = variant.filter_transform();
        let outputs = index * panel..((index + 1) * panel).min(filter.out_channels);
        let mut weights = [0.0; BLOCK * 9 * MAX_PANEL];
        for channel in 0..filter.in_channels {
            let (block, lane) = (channel / BLOCK * BLOCK, channel % BLOCK);
            if lane == 0 {
                let count = BLOCK.min(filter.in_channels - block);
                filter.copy_weights(weight, outputs.clone(), block, &mut weights[..count * 9 * outputs.len()]);
            }
            let mut filters: [Columns; 9] = [[0.0; MAX_PANEL]; 9];
            for element in &filter.elements {
                let [y, x] = element.offset;
                let weights = &weights[(lane * 9 + element.index) * outputs.len()..][..outputs.len()];
                filters[y * 3 + x].iter_mut().zip(weights).for_each(|(to, &weight)| *to = f64::from(weight));
            }
            for (y, factors) in transform[..side].iter().enumerate() {
                let row: [Columns; 3] =
                    std::array::from_fn(|x| combine(factors, [&filters[x], &filters[3 + x], &filters[6 + x]]));
                for (x, factors) in transform[..side].iter().enumerate() {
                    let sums = combine(factors, row.each_ref()).map(|sum| sum as f32);
                    let at = ((y * side + x) * depth + channel) * panel;
                    packed[at..at + panel].copy_from_slice(&sums[..panel]);
                }
            }
        }
    }
}

/// Returns the sum of three terms multiplied by factors.
#[inline(always)]
fn combine(factors: &[f64; 3], terms: [&Columns; 3]) -> Columns {
    let mut sums = [0.0; MAX_PANEL];
    for (factor, term) in factors.iter().zip(terms) {
        sums.iter_mut().zip(term).for_each(|(sum, value)| *sum += factor * value);
    }
    sums
}
