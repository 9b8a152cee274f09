//! Chooses the algorithm for each convolution with a cost model over its shape, so that a model computes the same on
//! every run.
//!
//! A direct convolution in bf16 costs half as much as in f32, plus the cost of rounding its input.
//!
//! Winograd variants with larger tiles multiply less, but their transformed weights are larger: for 3x3 filters 4, 2.8
//! and 1.8 times as large for m = 4, 3 and 2. For small images, each weight is read from memory for only a few pixels,
//! and reading it costs more than multiplying.

use super::super::Precision;
use super::amx::ImageRows;
use super::blocked_shape::BLOCK;
use super::filter::Filter;
use super::simd::{InstructionSet, TILE};
use crate::architecture::{Architecture, Convolution, Stem};
use crate::engine::winograd::WinogradVariant;
use crate::plan::{FoldedConvolution, Operation, Plan};
use std::fmt;

/// Cost of reading one weight from memory, in multiply-adds. Measured on two cores of a server: about 110 billion
/// multiply-adds and 9 billion weights per second. A different ratio only changes choices between algorithms of similar
/// cost.
const WEIGHT_READ_COST: usize = 13;

/// Cost of rounding one value of the input to bf16, in multiply-adds: about 0.08 ns on the same processor.
const ROUNDING_COST: usize = 10;

/// Number of multiply-adds that tiles compute in the time of one in f32.
const AMX_SPEED: usize = 5;

/// Maximum size of all packed weights, as a multiple of the size of the f32 weights.
const MAX_WEIGHT_EXPANSION: usize = 2;

/// An algorithm that computes a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Direct convolution: one matrix product per element of the filter.
    Direct,
    /// Direct convolution in bf16, with twice the multiply-adds per instruction and half the bytes of weights.
    DirectBf16,
    /// Direct convolution in bf16 by [tiles](super::simd::MatrixUnit).
    AmxBf16,
    Winograd(WinogradVariant),
}

impl Algorithm {
    /// Returns the algorithms that can compute a layer with a precision and an instruction set.
    pub fn candidates(
        layer: &Convolution,
        precision: Precision,
        set: InstructionSet,
    ) -> impl Iterator<Item = Algorithm> + use<> {
        let Convolution { kernel, stride, groups, in_channels, .. } = *layer;
        let tile_sizes = match (kernel, stride) {
            // With so few channels per group, the transforms cost more than they save.
            _ if groups > 1 || in_channels < BLOCK => 2..2,
            (3, 1) => 2..5,
            (3, 2) => 2..3,
            _ => 2..2,
        };
        let winograd = tile_sizes.map(move |m| Algorithm::Winograd(WinogradVariant { m, stride }));
        let bf16 = precision == Precision::Bf16 && in_channels >= BLOCK;
        let has_tiles = (in_channels >= BLOCK && groups == 1) || ImageRows::supports(&Filter::forward(layer));
        let amx = precision == Precision::Bf16 && has_tiles && set.matrix_unit().is_some();
        let bf16 = [(bf16 && set.has_bf16_pairs()).then_some(Algorithm::DirectBf16), amx.then_some(Algorithm::AmxBf16)];
        std::iter::once(Algorithm::Direct).chain(bf16.into_iter().flatten()).chain(winograd)
    }
}

/// Formats the names that `trainer bench --layers` prints. `matrix` means direct convolution; the label is kept because
/// it is part of the result lines of `trainer bench`.
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Direct => f.write_str("matrix"),
            Algorithm::DirectBf16 => f.write_str("matrix bf16"),
            Algorithm::AmxBf16 => f.write_str("amx bf16"),
            Algorithm::Winograd(WinogradVariant { m, stride: 1 }) => write!(f, "winograd {m}x{m}"),
            Algorithm::Winograd(WinogradVariant { m, stride }) => write!(f, "winograd {m}x{m}/{stride}"),
        }
    }
}

/// A convolution and the side of its output.
#[derive(Clone, Copy)]
struct SizedConvolution<'a> {
    convolution: &'a Convolution,
    output_side: usize,
}

/// Returns the side of the images for which the algorithms of an architecture are chosen. They work for other sizes
/// too.
fn nominal_side(architecture: &Architecture) -> usize {
    match architecture.stem {
        Stem::Imagenet | Stem::ImagenetStride1 => 224,
        Stem::Small => 32,
    }
}

impl SizedConvolution<'_> {
    fn candidates(&self, precision: Precision, set: InstructionSet) -> impl Iterator<Item = Algorithm> + use<> {
        Algorithm::candidates(self.convolution, precision, set)
    }

    /// Returns the number of pairs of input and output channels that are multiplied: whole blocks of inputs, with zeros
    /// between groups.
    fn channel_pairs(&self) -> usize {
        let Convolution { in_channels, out_channels, groups, .. } = *self.convolution;
        out_channels * (in_channels / groups).max(in_channels.min(BLOCK))
    }

    /// Returns the number of weights in the checkpoint.
    fn unpacked_weights(&self) -> usize {
        self.convolution.weight_shape().iter().product()
    }

    /// Returns the size of the packed weights, in multiples of four bytes.
    fn packed_weights(&self, algorithm: Algorithm) -> usize {
        match algorithm {
            Algorithm::Direct => self.channel_pairs() * self.convolution.kernel.pow(2),
            Algorithm::DirectBf16 | Algorithm::AmxBf16 => self.channel_pairs() * self.convolution.kernel.pow(2) / 2,
            Algorithm::Winograd(variant) => self.channel_pairs() * variant.filter_elements(),
        }
    }

    /// Returns the number of multiply-adds for one image.
    fn multiply_adds(&self, algorithm: Algorithm) -> usize {
        self.channel_pairs()
            * match algorithm {
                Algorithm::AmxBf16 => {
                    // Rows of pixels are computed in whole tiles.
                    self.convolution.kernel.pow(2) * self.output_side * self.output_side.next_multiple_of(TILE)
                }
                Algorithm::Direct | Algorithm::DirectBf16 => (self.convolution.kernel * self.output_side).pow(2),
                Algorithm::Winograd(variant) => variant.multiplications(self.output_side).pow(2),
            }
    }

    /// Returns the estimated time for one image, in multiply-adds.
    fn cost(&self, algorithm: Algorithm) -> usize {
        let rounding =
            || ROUNDING_COST * self.convolution.in_channels * (self.output_side * self.convolution.stride).pow(2);
        let arithmetic = match algorithm {
            Algorithm::DirectBf16 => self.multiply_adds(algorithm) / 2 + rounding(),
            Algorithm::AmxBf16 => self.multiply_adds(algorithm) / AMX_SPEED + rounding(),
            Algorithm::Direct | Algorithm::Winograd(_) => self.multiply_adds(algorithm),
        };
        arithmetic + WEIGHT_READ_COST * self.packed_weights(algorithm)
    }
}

/// Chooses the algorithm for each convolution of a plan.
pub fn choose(plan: &Plan, precision: Precision, set: InstructionSet) -> Vec<Algorithm> {
    let mut sides = vec![nominal_side(&plan.architecture)];
    let mut layers = Vec::new();
    for operation in &plan.operations {
        let from = operation.inputs().next().map_or(1, |value| sides[value]);
        sides.push(match operation {
            Operation::Convolution(FoldedConvolution { layer, .. }) => layer.output_size(from),
            Operation::MaxPool { pool, .. } => pool.output_size(from),
            Operation::GlobalAveragePool { .. } | Operation::Linear(_) => 1,
        });
        if let Operation::Convolution(FoldedConvolution { layer, output, .. }) = operation {
            layers.push(SizedConvolution { convolution: layer, output_side: sides[*output] });
        }
    }
    choose_for_layers(&layers, precision, set)
}

/// Chooses the cheapest algorithm for each layer. While all packed weights together exceed the limit, the layer whose
/// weights shrink at the lowest cost per byte gets an algorithm with smaller weights.
fn choose_for_layers(layers: &[SizedConvolution], precision: Precision, set: InstructionSet) -> Vec<Algorithm> {
    let cheapest =
        |layer: &SizedConvolution| layer.candidates(precision, set).min_by_key(|&algorithm| layer.cost(algorithm));
    let mut chosen: Vec<Algorithm> =
        layers.iter().map(|layer| cheapest(layer).expect("direct convolution is always a candidate")).collect();
    let limit = MAX_WEIGHT_EXPANSION * layers.iter().map(SizedConvolution::unpacked_weights).sum::<usize>();
    loop {
        let weights =
            chosen.iter().zip(layers).map(|(&algorithm, layer)| layer.packed_weights(algorithm)).sum::<usize>();
        if weights <= limit {
            return chosen;
        }
        let replacements = chosen.iter().zip(layers).enumerate().flat_map(|(index, (&current, layer))| {
            let smaller = layer
                .candidates(precision, set)
                .filter(move |&smaller| layer.packed_weights(smaller) < layer.packed_weights(current));
            smaller.map(move |smaller| {
                let saved_weights = layer.packed_weights(current) - layer.packed_weights(smaller);
                let added_cost = layer.cost(smaller) - layer.cost(current);
                (index, smaller, added_cost as f64 / saved_weights as f64)
            })
        });
        let best = replacements.min_by(|a, b| a.2.total_cmp(&b.2));
        let (index, smaller, _) = best.expect("direct convolutions stay within the limit");
        chosen[index] = smaller;
    }
}

#[cfg(test)]
mod tests {
    use super::Precision::{Bf16, F32};
    use super::*;

    /// Returns an instruction set that supports all algorithms.
    fn scalar() -> InstructionSet {
        InstructionSet::available().pop().expect("`scalar` is always available")
    }

    #[test]
    fn packed_weights_respect_the_size_limit() {
        for name in Architecture::names() {
            let convolutions = Architecture::new(&name, 1000).unwrap().convolutions();
            for (side, precision) in [4, 7, 14, 56].into_iter().flat_map(|side| [(side, F32), (side, Bf16)]) {
                let layers: Vec<_> = convolutions
                    .iter()
                    .map(|convolution| SizedConvolution { convolution, output_side: side })
                    .collect();
                let chosen = choose_for_layers(&layers, precision, scalar());
                let packed: usize =
                    chosen.iter().zip(&layers).map(|(&chosen, layer)| layer.packed_weights(chosen)).sum();
                let unpacked: usize = layers.iter().map(SizedConvolution::unpacked_weights).sum();
                assert!(packed <= 2 * unpacked, "{name}: {packed} of {unpacked}");
                let winograd = chosen.iter().filter(|algorithm| matches!(algorithm, Algorithm::Winograd(_))).count();
                if side > 4 && precision == F32 {
                    assert_eq!(winograd == 0, name.starts_with("resnext"), "{name}: {winograd} layers");
                }
            }
        }
    }

    /// Chooses the algorithm for a layer without the limit on the size of the weights.
    fn chosen(convolution: &Convolution, output_side: usize, precision: Precision) -> Algorithm {
        choose_for_layers(
            &[SizedConvolution { convolution, output_side }, SizedConvolution { convolution: &huge(), output_side: 7 }],
            precision,
            scalar(),
        )[0]
    }

    #[test]
    fn every_layer_gets_its_cheapest_candidate() {
        let mut all = Vec::new();
        for name in ["resnet18", "resnet50", "resnext50_32x4d"] {
            for convolution in &Architecture::new(name, 1000).unwrap().convolutions() {
                for (output_side, precision) in [4, 7, 14, 28, 56, 112].into_iter().flat_map(|s| [(s, F32), (s, Bf16)])
                {
                    let layer = SizedConvolution { convolution, output_side };
                    let (chosen, candidates) =
                        (chosen(convolution, output_side, precision), layer.candidates(precision, scalar()));
                    for other in candidates {
                        let [cost, other_cost] = [chosen, other].map(|algorithm| layer.cost(algorithm));
                        assert!(
                            cost <= other_cost,
                            "{name} {}, {output_side}: {chosen} instead of {other}",
                            convolution.name
                        );
                    }
                    all.push(chosen);
                }
            }
        }
        // No algorithm is too expensive for every layer.
        let winograd =
            [(2, 1), (3, 1), (4, 1), (2, 2)].map(|(m, stride)| Algorithm::Winograd(WinogradVariant { m, stride }));
        for algorithm in [Algorithm::Direct, Algorithm::DirectBf16, Algorithm::AmxBf16].into_iter().chain(winograd) {
            assert!(all.contains(&algorithm), "{algorithm} is never chosen");
        }
    }

    #[test]
    fn only_layers_of_many_channels_have_other_candidates_than_direct_convolution() {
        let candidates = |network, name, precision| {
            let convolutions = Architecture::new(network, 1000).unwrap().convolutions();
            let convolution = convolutions.iter().find(|convolution| convolution.name == name).unwrap();
            Algorithm::candidates(convolution, precision, scalar()).collect::<Vec<_>>()
        };
        assert_eq!(candidates("resnet18", "conv1", F32), [Algorithm::Direct]);
        assert_eq!(candidates("resnet18", "conv1", Bf16), [Algorithm::Direct, Algorithm::AmxBf16]);
        let direct = [Algorithm::Direct, Algorithm::DirectBf16, Algorithm::AmxBf16];
        for (network, name, in_bf16) in
            [("resnet18", "layer3.0.downsample.0", &direct[..]), ("resnext50_32x4d", "layer2.1.conv2", &direct[..2])]
        {
            assert_eq!(candidates(network, name, F32), direct[..1], "{network} {name}");
            assert_eq!(candidates(network, name, Bf16), in_bf16, "{network} {name}");
        }
    }

    #[test]
    fn larger_images_use_larger_winograd_tiles() {
        let convolutions = Architecture::new("resnet18", 1000).unwrap().convolutions();
        for convolution in convolutions.iter().filter(|layer| [layer.kernel, layer.stride] == [3, 1]) {
            let tile = |side| match chosen(convolution, side, F32) {
                Algorithm::Winograd(WinogradVariant { m, .. }) => m,
                Algorithm::Direct | Algorithm::DirectBf16 | Algorithm::AmxBf16 => 1,
            };
            // Multiples of every m, so that no tile is only partly used.
            let tiles = [12, 24, 48, 96].map(tile);
            assert!(tiles.is_sorted(), "{}: {tiles:?}", convolution.name);
        }
    }

    /// Returns a 1x1 convolution with so many weights that the size limit never applies to another layer.
    fn huge() -> Convolution {
        let mut convolution = Architecture::new("resnet50", 1000).unwrap().convolutions().pop().unwrap();
        (convolution.kernel, convolution.out_channels) = (1, 1 << 20);
        convolution
    }
}
