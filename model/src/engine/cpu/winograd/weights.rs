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

impl Kernel for TransformPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.variant.filter_side() {
            4 => self.transform::<S, 4>(simd),
            5 => self.transform::<S, 5>(simd),
            6 => self.transform::<S, 6>(simd),
            side => unreachable!("no variant has transformed filters with a side of {side}"),
        }
    }
}

impl TransformPanel<'_> {
    #[inline(always)]
    fn transform<S: Simd, const SIDE: usize>(self, simd: S) {
        let TransformPanel { filter, weight, variant, index, panel, packed } = self;
        let depth = filter.in_channels.next_multiple_of(BLOCK);
        assert!(panel <= MAX_PANEL && packed.len() == SIDE * SIDE * depth * panel);
        let matrix = variant.filter_transform().map(|row| row.map(|factor| simd.splat(factor as f32)));
        let outputs = index * panel..((index + 1) * panel).min(filter.out_channels);
        // Index of the layer's weight for each element of the filter, row by row.
        let mut indices = [0; 9];
        for element in &filter.elements {
            let [y, x] = element.offset;
            indices[y * 3 + x] = element.index;
        }
        let mut weights = [0.0; BLOCK * 9 * MAX_PANEL];
        for channel in 0..filter.in_channels {
            let lane = channel % BLOCK;
            if lane == 0 {
                let count = BLOCK.min(filter.in_channels - channel);
                filter.copy_weights(weight, outputs.clone(), channel, &mut weights[..count * 9 * panel], panel);
            }
            for column in (0..panel).step_by(S::LANES) {
                let elements: [S::Vector; 9] = std::array::from_fn(|element| {
                    let at = (lane * 9 + indices[element]) * panel + column;
                    // SAFETY: the array holds the weights of a block of channels, and a panel has whole vectors.
                    unsafe { simd.load(weights.as_ptr().add(at)) }
                });
                for (y, factors) in matrix[..SIDE].iter().enumerate() {
                    let row: [S::Vector; 3] = std::array::from_fn(|x| {
                        combine(simd, factors, [elements[x], elements[3 + x], elements[6 + x]])
                    });
                    for (x, factors) in matrix[..SIDE].iter().enumerate() {
                        let at = ((y * SIDE + x) * depth + channel) * panel + column;
                        // SAFETY: the assertion above checks that there is room for all elements, channels and columns.
                        unsafe { simd.store(packed.as_mut_ptr().add(at), combine(simd, factors, row)) };
                    }
                }
            }
        }
    }
}

/// Returns the sum of three terms multiplied by factors.
#[inline(always)]
fn combine<S: Simd>(simd: S, factors: &[S::Vector; 3], terms: [S::Vector; 3]) -> S::Vector {
    let sum = simd.multiply(factors[0], terms[0]);
    simd.multiply_add(factors[2], terms[2], simd.multiply_add(factors[1], terms[1], sum))
}
