//! Chooses the algorithm of a convolution in training.
//!
//! The model of the CPU engine ([`algorithm`](crate::engine::cpu::algorithm)) is for single images and weights that are
//! packed once. In training, a batch shares the weights, and they are packed in every step.

use crate::architecture::Convolution;
use crate::engine::Precision;
use crate::engine::cpu::WinogradVariant;
use crate::engine::cpu::algorithm::Algorithm;
use crate::engine::cpu::amx::{AmxWeights, ImageRows};
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::convolution_output::PixelGrid;
use crate::engine::cpu::filter::Filter;
use crate::engine::cpu::simd::InstructionSet;

/// Cost of packing and reading one weight of a direct convolution, in multiply-adds. This and the following costs were
/// measured on two cores of an AMD EPYC (Zen 5), which compute 213 billion multiply-adds in a second.
const WEIGHT_COST: usize = 40;
/// Cost of computing, writing and reading one transformed weight, in multiply-adds.
const TRANSFORMED_WEIGHT_COST: usize = 130;
/// Cost of rounding one value to bf16, in multiply-adds.
const ROUNDING_COST: usize = 20;
/// Cost of transforming one element of an input tile or an output tile, in multiply-adds.
const ELEMENT_COST: usize = 8;
/// Cost of writing, reading and transforming one sum over tiles in a weight gradient, in multiply-adds.
const PRODUCT_COST: usize = 60;

/// Number of multiply-adds that AMX computes in the time of one in f32. Measured on an Intel Xeon (Emerald Rapids).
const AMX_SPEED: usize = 5;

/// A convolution of a batch.
pub struct Problem<'a> {
    pub filter: &'a Filter,
    pub input: &'a BlockedShape,
    pub output: &'a BlockedShape,
    /// The pixels of the output that are computed.
    pub grid: &'a PixelGrid,
    pub precision: Precision,
    pub set: InstructionSet,
}

/// Returns the algorithm with the lowest estimated cost.
pub fn choose(problem: &Problem) -> Algorithm {
    let cheapest = problem.candidates().min_by_key(|&algorithm| problem.cost(algorithm));
    cheapest.expect("direct convolution is always a candidate")
}

impl Problem<'_> {
    /// Returns the algorithms that can compute the convolution.
    pub fn candidates(&self) -> impl Iterator<Item = Algorithm> + use<> {
        let Filter { groups, in_channels, stride, ref elements, .. } = *self.filter;
        let tile_sizes = match (elements.len(), stride) {
            _ if self.grid.step > 1 => 2..2,
            // With so few channels per group, the transforms cost more than they save.
            _ if groups > 1 || in_channels < BLOCK => 2..2,
            (9, 1) => 2..5,
            (9, 2) => 2..3,
            _ => 2..2,
        };
        let winograd = tile_sizes.map(move |m| Algorithm::Winograd(WinogradVariant { m, stride }));
        let bf16 = (self.precision == Precision::Bf16).then_some(Algorithm::DirectBf16);
        let has_tiles = self.set.matrix_unit().is_some() && AmxWeights::supports(self.filter);
        let amx = (self.precision == Precision::Bf16 && has_tiles).then_some(Algorithm::AmxBf16);
        std::iter::once(Algorithm::Direct).chain(bf16).chain(amx).chain(winograd)
    }

    /// Returns the estimated time, in multiply-adds.
    fn cost(&self, algorithm: Algorithm) -> usize {
        let Problem { filter: Filter { in_channels, out_channels, elements, .. }, input, output, grid, .. } = *self;
        let weights = in_channels * out_channels * elements.len();
        let pixels = output.batch * grid.pixels();
        match algorithm {
            Algorithm::Direct => weights * (pixels + WEIGHT_COST),
            Algorithm::DirectBf16 => {
                weights * (pixels / 2 + WEIGHT_COST) + input.pixels() * in_channels * ROUNDING_COST
            }
            Algorithm::AmxBf16 => {
                weights * (pixels / AMX_SPEED + WEIGHT_COST) + input.pixels() * in_channels * ROUNDING_COST
            }
            Algorithm::Winograd(variant) => {
                winograd_cost(variant, [*in_channels, *out_channels], output, TRANSFORMED_WEIGHT_COST)
            }
        }
    }
}

/// Returns the algorithm for a stem, which reads an image.
pub fn choose_for_stem(filter: &Filter, precision: Precision, set: InstructionSet) -> Algorithm {
    let has_tiles = set.matrix_unit().is_some() && ImageRows::supports(filter);
    if precision == Precision::Bf16 && has_tiles { Algorithm::AmxBf16 } else { Algorithm::Direct }
}

/// Returns the algorithm with the lowest estimated cost for the gradient of a layer's weights.
pub fn choose_for_weights(
    layer: &Convolution,
    gradient: &BlockedShape,
    precision: Precision,
    set: InstructionSet,
) -> Algorithm {
    let Convolution { in_channels, out_channels, kernel, stride, groups, .. } = *layer;
    let (channel_pairs, area) = (in_channels * out_channels, kernel * kernel);
    let tile_sizes = if groups == 1 && (kernel, stride) == (3, 1) { 2..5 } else { 2..2 };
    let winograd = tile_sizes.map(|m| {
        let variant = WinogradVariant { m, stride };
        let cost = winograd_cost(variant, [in_channels, out_channels], gradient, PRODUCT_COST);
        (cost, Algorithm::Winograd(variant))
    });
    let direct = (channel_pairs * area * gradient.pixels(), Algorithm::Direct);
    let bf16 = (precision == Precision::Bf16).then(|| {
        let rounded = gradient.pixels() * (in_channels * area + out_channels);
        (direct.0 / 2 + rounded * ROUNDING_COST, Algorithm::DirectBf16)
    });
    let has_tiles = set.matrix_unit().is_some() && tiles_support_weights(layer);
    let amx = (precision == Precision::Bf16 && has_tiles).then(|| {
        let rounded = gradient.pixels() * (in_channels * stride * stride + out_channels);
        (direct.0 / AMX_SPEED + rounded * ROUNDING_COST, Algorithm::AmxBf16)
    });
    let candidates = std::iter::once(direct).chain(bf16).chain(amx).chain(winograd);
    let (_, algorithm) = candidates.min_by_key(|(cost, _)| *cost).expect("direct is one");
    algorithm
}

/// Returns whether tiles can compute the gradient of a layer's weights.
pub fn tiles_support_weights(layer: &Convolution) -> bool {
    layer.groups == 1 && layer.kernel <= 3 && layer.in_channels.is_multiple_of(BLOCK)
}

/// Returns the estimated time of the products and transforms of a batch of tiles, in multiply-adds. `filter_cost` is the
/// cost of one element of a transformed filter.
fn winograd_cost(
    variant: WinogradVariant,
    [in_channels, out_channels]: [usize; 2],
    output: &BlockedShape,
    filter_cost: usize,
) -> usize {
    let channel_pairs = in_channels * out_channels;
    let [rows, columns] = [output.height, output.width].map(|side| variant.multiplications(side));
    let elements = output.batch * rows * columns;
    elements * (channel_pairs + ELEMENT_COST * (in_channels + out_channels))
        + channel_pairs * variant.filter_elements() * filter_cost
}
