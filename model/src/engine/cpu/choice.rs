//! Which algorithm computes which convolution: by a formula over its shape, so that a model answers the same on every run.
//!
//! In bf16 a matrix product costs half of what it costs in f32, but for rounding its inputs first.
//!
//! Winograd's larger tiles multiply less and their weights weigh more: 4, 2.8 and 1.8 times as much for tiles of 4, 3 and
//! 2. Where an image is small, every weight is read from memory for a handful of pixels, and its bytes cost more than
//! multiplications.

use super::super::Precision;
use super::blocked::BLOCK;
use crate::architecture::{Architecture, Convolution, Stem};
use crate::engine::winograd::Scheme;
use std::fmt;

/// How many multiply-adds take the time in which one weight is read from memory: on two cores of a server, about 110 billion
/// multiply-adds and 9 billion weights a second. Another machine's ratio changes the choice only where it matters little.
const READ: usize = 13;

/// How many multiply-adds take the time in which one value of the input is rounded to bf16: about 0.08 ns, on the same
/// processor.
const ROUND: usize = 10;

/// Packed weights take at most this many times the bytes of the fp32 weights.
const LIMIT: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A matrix product, tap by tap.
    Matrix,
    /// The same in bf16: twice the products in a step, half the weight.
    MatrixBf16,
    Winograd(Scheme),
}

impl Algorithm {
    /// Those that compute a layer.
    pub fn candidates(layer: &Convolution, precision: Precision) -> impl Iterator<Item = Algorithm> + use<> {
        let Convolution { kernel, stride, groups, in_channels, .. } = *layer;
        let tiles = match (kernel, stride) {
            // Transforming fewer channels costs more than it saves.
            _ if groups > 1 || in_channels < BLOCK => 2..2,
            (3, 1) => 2..5,
            (3, 2) => 2..3,
            _ => 2..2,
        };
        let winograd = tiles.map(move |tile| Algorithm::Winograd(Scheme { tile, stride }));
        let bf16 = precision == Precision::Bf16 && in_channels >= BLOCK;
        std::iter::once(Algorithm::Matrix).chain(bf16.then_some(Algorithm::MatrixBf16)).chain(winograd)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Matrix => f.write_str("matrix"),
            Algorithm::MatrixBf16 => f.write_str("matrix bf16"),
            Algorithm::Winograd(Scheme { tile, stride: 1 }) => write!(f, "winograd {tile}x{tile}"),
            Algorithm::Winograd(Scheme { tile, stride }) => write!(f, "winograd {tile}x{tile}/{stride}"),
        }
    }
}

/// A convolution and the side of its output.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub convolution: &'a Convolution,
    pub side: usize,
}

/// The side of the images that a network is chosen for; it takes others.
pub fn nominal_side(architecture: &Architecture) -> usize {
    match architecture.stem {
        Stem::Imagenet | Stem::ImagenetStride1 => 224,
        Stem::Small => 32,
    }
}

impl Layer<'_> {
    fn candidates(&self, precision: Precision) -> impl Iterator<Item = Algorithm> + use<> {
        Algorithm::candidates(self.convolution, precision)
    }

    /// Pairs of channels that are multiplied: whole blocks of inputs, with zeros between groups.
    fn channels(&self) -> usize {
        let Convolution { in_channels, out_channels, groups, .. } = *self.convolution;
        out_channels * (in_channels / groups).max(in_channels.min(BLOCK))
    }

    /// In a checkpoint.
    fn plain_weights(&self) -> usize {
        self.convolution.weight_shape().iter().product()
    }

    /// Packed, in the bytes of an f32.
    fn weights(&self, algorithm: Algorithm) -> usize {
        match algorithm {
            Algorithm::Matrix => self.channels() * self.convolution.kernel.pow(2),
            Algorithm::MatrixBf16 => self.channels() * self.convolution.kernel.pow(2) / 2,
            Algorithm::Winograd(scheme) => self.channels() * scheme.weights().pow(2),
        }
    }

    /// Multiply-adds for one image.
    pub fn products(&self, algorithm: Algorithm) -> usize {
        self.channels()
            * match algorithm {
                Algorithm::Matrix | Algorithm::MatrixBf16 => (self.convolution.kernel * self.side).pow(2),
                Algorithm::Winograd(scheme) => scheme.products(self.side).pow(2),
            }
    }

    /// In multiply-adds.
    fn cost(&self, algorithm: Algorithm) -> usize {
        let products = match algorithm {
            Algorithm::MatrixBf16 => {
                let inputs = self.convolution.in_channels * (self.side * self.convolution.stride).pow(2);
                self.products(algorithm) / 2 + ROUND * inputs
            }
            Algorithm::Matrix | Algorithm::Winograd(_) => self.products(algorithm),
        };
        products + READ * self.weights(algorithm)
    }
}

/// The cheapest algorithm for each layer; while all weights together are too heavy, the one whose weights become lighter at
/// the least cost gives way.
pub fn choose(layers: &[Layer], precision: Precision) -> Vec<Algorithm> {
    let cheapest = |layer: &Layer| layer.candidates(precision).min_by_key(|&algorithm| layer.cost(algorithm));
    let mut chosen: Vec<Algorithm> = layers.iter().map(|layer| cheapest(layer).expect("there is always one")).collect();
    let limit = LIMIT * layers.iter().map(Layer::plain_weights).sum::<usize>();
    loop {
        let weights = chosen.iter().zip(layers).map(|(&algorithm, layer)| layer.weights(algorithm)).sum::<usize>();
        if weights <= limit {
            return chosen;
        }
        let lighter = chosen.iter().zip(layers).enumerate().flat_map(|(index, (&heavy, layer))| {
            let lighter = layer.candidates(precision).filter(move |&light| layer.weights(light) < layer.weights(heavy));
            lighter.map(move |light| {
                let saved = layer.weights(heavy) - layer.weights(light);
                let lost = layer.cost(light) - layer.cost(heavy);
                (index, light, lost as f64 / saved as f64)
            })
        });
        let least = lighter.min_by(|a, b| a.2.total_cmp(&b.2));
        let (index, light, _) = least.expect("without Winograd the weights weigh what they weigh");
        chosen[index] = light;
    }
}

#[cfg(test)]
mod tests {
    use super::Precision::{Bf16, F32};
    use super::*;

    #[test]
    fn packed_weights_take_at_most_twice_the_bytes() {
        for name in Architecture::names() {
            let convolutions = Architecture::new(&name, 1000).unwrap().convolutions();
            for (side, precision) in [4, 7, 14, 56].into_iter().flat_map(|side| [(side, F32), (side, Bf16)]) {
                let layers: Vec<_> = convolutions.iter().map(|convolution| Layer { convolution, side }).collect();
                let chosen = choose(&layers, precision);
                let packed: usize = chosen.iter().zip(&layers).map(|(&chosen, layer)| layer.weights(chosen)).sum();
                let plain: usize = layers.iter().map(Layer::plain_weights).sum();
                assert!(packed <= 2 * plain, "{name}: {packed} of {plain}");
                let winograd = chosen.iter().filter(|algorithm| matches!(algorithm, Algorithm::Winograd(_))).count();
                if side > 4 && precision == F32 {
                    assert_eq!(winograd == 0, name.starts_with("resnext"), "{name}: {winograd} layers");
                }
            }
        }
    }

    /// For a layer of a network whose weights are no limit.
    fn chosen(network: &str, name: &str, side: usize, precision: Precision) -> Algorithm {
        let convolutions = Architecture::new(network, 1000).unwrap().convolutions();
        let convolution = convolutions.iter().find(|convolution| convolution.name == name).unwrap();
        choose(&[Layer { convolution, side }, Layer { convolution: &heavy(), side: 7 }], precision)[0]
    }

    fn winograd(tile: usize, stride: usize) -> Algorithm {
        Algorithm::Winograd(Scheme { tile, stride })
    }

    #[test]
    fn larger_images_get_larger_tiles() {
        let of = |name, side| chosen("resnet18", name, side, F32);
        assert_eq!(of("conv1", 112), Algorithm::Matrix);
        assert_eq!(of("layer1.0.conv1", 56), winograd(4, 1));
        assert_eq!(of("layer2.0.conv1", 28), winograd(2, 2));
        assert_eq!(of("layer3.0.conv2", 14), winograd(3, 1));
        assert_eq!(of("layer3.0.downsample.0", 14), Algorithm::Matrix);
        assert_eq!(of("layer4.0.conv2", 7), winograd(2, 1));
        assert_eq!(of("layer4.0.conv2", 4), Algorithm::Matrix);
    }

    #[test]
    fn bf16_is_chosen_where_it_saves_more_than_winograd_and_more_than_rounding_costs() {
        assert_eq!(chosen("resnet18", "conv1", 112, Bf16), Algorithm::Matrix);
        assert_eq!(chosen("resnet18", "layer1.0.conv1", 56, Bf16), winograd(4, 1));
        assert_eq!(chosen("resnet18", "layer4.0.conv2", 7, Bf16), Algorithm::MatrixBf16);
        assert_eq!(chosen("resnet50", "layer3.1.conv3", 14, Bf16), Algorithm::MatrixBf16);
        // Tiles of grouped convolutions multiply by zeros between groups, here four times as many.
        assert_eq!(chosen("resnext50_32x4d", "layer2.1.conv2", 28, Bf16), Algorithm::MatrixBf16);
    }

    /// So heavy and useless to transform that the limit plays no part.
    fn heavy() -> Convolution {
        let mut convolution = Architecture::new("resnet50", 1000).unwrap().convolutions().pop().unwrap();
        (convolution.kernel, convolution.out_channels) = (1, 1 << 20);
        convolution
    }
}
