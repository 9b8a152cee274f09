//! Tests of the CPU engine's kernels on every instruction set. `make checked` runs them with bounds checks and `make
//! neon` on an emulated processor, so they compute as little as every kernel allows; `cpu_networks.rs` tests larger
//! shapes.

mod common;

use common::instruction_sets::{assert_sets_agree, options, scalar, vector_sets};
use common::relative_difference;
use model::architecture::{Architecture, Convolution, Stem};
use model::engine::Precision;
use model::engine::cpu::{Algorithm, InstructionSet, SingleConvolution, WinogradVariant};
use std::collections::BTreeSet;

/// Numbers of input channels and of output channels, kernel, stride, and number of groups.
type LayerParameters = [usize; 5];

/// Layers for each kind of input and each stride. The input has two blocks of channels, and the last panel of output
/// channels is not full on any instruction set.
const SMALL_LAYERS: [LayerParameters; 10] = [
    [3, 40, 7, 2, 1],
    [3, 40, 7, 1, 1],
    [3, 40, 3, 1, 1],
    [32, 40, 3, 1, 1],
    [32, 40, 3, 2, 1],
    [32, 40, 1, 1, 1],
    [32, 40, 1, 2, 1],
    [64, 64, 3, 1, 16],
    [64, 64, 3, 2, 8],
    [64, 64, 3, 1, 2],
];

/// Layers whose weights do not fit into a core's cache.
const LARGE_LAYERS: [LayerParameters; 2] = [[128, 144, 3, 1, 1], [128, 144, 3, 2, 1]];

fn convolution([in_channels, out_channels, kernel, stride, groups]: LayerParameters) -> Convolution {
    let [name, norm] = ["layer", ""].map(str::to_owned);
    Convolution { name, norm, in_channels, out_channels, kernel, stride, padding: kernel / 2, groups }
}

/// Returns the algorithms that can compute a layer on an instruction set.
fn algorithms(layer: &Convolution, set: InstructionSet) -> impl Iterator<Item = Algorithm> {
    let precision = if set.supports_bf16() { Precision::Bf16 } else { Precision::F32 };
    Algorithm::candidates(layer, precision, set)
}

fn run(layer: &Convolution, algorithm: Algorithm, shape: [usize; 3], set: InstructionSet) -> SingleConvolution {
    let options = options(2, set, Precision::F32);
    let mut single = SingleConvolution::new(layer.clone(), algorithm, shape, options).unwrap();
    single.run();
    single
}

/// Asserts that a convolution has the output of a direct convolution on `scalar`, and returns the heights of its
/// register tiles. Values that differ slightly are occasionally rounded to different bf16 values, so the tolerance is
/// larger for bf16.
fn assert_agrees(layer: &Convolution, algorithm: Algorithm, shape: [usize; 3], set: InstructionSet) -> BTreeSet<usize> {
    let (reference, tolerance) = match algorithm {
        Algorithm::Direct => (Algorithm::Direct, 1e-5),
        Algorithm::Winograd(_) => (Algorithm::Direct, 3e-5),
        Algorithm::DirectBf16 => (Algorithm::DirectBf16, 5e-3),
        Algorithm::AmxBf16 => (Algorithm::AmxBf16, 5e-3),
    };
    let convolution = run(layer, algorithm, shape, set);
    let reference = run(layer, reference, shape, scalar());
    let difference = relative_difference(&convolution.output(), &reference.output());
    assert!(difference < tolerance, "{layer:?} by {algorithm} on {set}, {shape:?}: {difference}");
    convolution.tile_heights()
}

/// For each kind of input, stride and algorithm, a kernel is compiled for each height of the register tile. Rows of
/// every length up to the largest height need all of them.
#[test]
fn convolutions_agree_on_every_kernel() {
    for layer in SMALL_LAYERS.map(convolution) {
        for set in InstructionSet::available() {
            for algorithm in algorithms(&layer, set) {
                let (m, tile_rows) = match algorithm {
                    Algorithm::Winograd(WinogradVariant { m, .. }) => (m, set.tile_rows()),
                    Algorithm::Direct | Algorithm::DirectBf16 => (1, set.tile_rows()),
                    Algorithm::AmxBf16 => (1, 32),
                };
                let input = |output: usize| (output - 1) * layer.stride + 1;
                let rows = (1..=tile_rows).map(|tiles| [1, 1, input(m * tiles)]);
                let heights: BTreeSet<usize> =
                    rows.flat_map(|shape| assert_agrees(&layer, algorithm, shape, set)).collect();
                assert_eq!(heights, (1..=tile_rows).collect(), "{layer:?} by {algorithm} on {set}");
                // Winograd's tiles at the edges have every height and width up to m.
                for side in 1..=m {
                    assert_agrees(&layer, algorithm, [2, input(m + side), input(2 * m + 1 - side)], set);
                }
                // Rows of several register tiles.
                assert_agrees(&layer, algorithm, [1, 2, input(m * tile_rows + 1)], set);
            }
        }
    }
}

/// Tasks compute only some of the output channels, and Winograd's transforms and products are separate tasks.
#[test]
fn convolutions_with_large_weights_agree_on_every_kernel() {
    for layer in LARGE_LAYERS.map(convolution) {
        for set in InstructionSet::available() {
            for algorithm in algorithms(&layer, set) {
                assert_agrees(&layer, algorithm, [2, 7, 9], set);
            }
        }
    }
}

/// Covers what single convolutions lack: pools, residuals and the classifier, with every block and stem.
#[test]
fn networks_agree_on_every_kernel() {
    let architecture = |name| Architecture::new(name, 33).unwrap();
    assert_sets_agree(architecture("resnet18"), &[[1, 32, 32], [2, 21, 30]]);
    for stem in [Stem::ImagenetStride1, Stem::Small] {
        assert_sets_agree(Architecture { stem, ..architecture("resnet18") }, &[[1, 11, 14]]);
    }
    for name in ["resnet50", "resnext50_32x4d"] {
        assert_sets_agree(architecture(name), &[[1, 21, 30]]);
    }
}

/// The transformed inputs take more memory than a round of tiles may.
#[test]
fn convolutions_agree_in_several_rounds_of_tiles() {
    for stride in [1, 2] {
        let layer = convolution([128, 112, 3, stride, 1]);
        for set in vector_sets() {
            for algorithm in algorithms(&layer, set) {
                assert_agrees(&layer, algorithm, [1, 72, 80], set);
            }
        }
    }
}

/// The batch of 51 images runs in chunks of 49 and 2 images. With the large image, layers are split into many tasks.
#[test]
fn networks_agree_on_large_batches_and_images() {
    assert_sets_agree(Architecture::new("resnet18", 33).unwrap(), &[[51, 32, 32], [1, 97, 130]]);
    assert_sets_agree(Architecture::new("resnet50", 33).unwrap(), &[[1, 97, 130]]);
}
