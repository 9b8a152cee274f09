//! Single convolutions on the CPU engine, each by every algorithm that computes it: the choice between them is a formula,
//! and here is what it should say. Counted are the multiply-adds of the layer as it is defined, on all cores.
//!
//! `cargo bench -p model --bench convolutions`, and with `-- 'winograd'` or `-- 'layer3'` a part.

use divan::Bencher;
use divan::counter::ItemsCount;
use model::architecture::{Architecture, Convolution};
use model::engine::cpu::{Algorithm, Alone, CpuOptions, InstructionSet, Precision, Scheme};
use std::fmt;

fn main() {
    divan::main();
}

/// Layers of different kinds: a network, one of its convolutions, and the side of its input at 224x224.
const LAYERS: [(&str, &str, usize); 10] = [
    ("resnet18", "conv1", 224),
    ("resnet18", "layer1.0.conv1", 56),
    ("resnet18", "layer2.0.conv1", 56),
    ("resnet18", "layer2.0.conv2", 28),
    ("resnet18", "layer3.0.conv2", 14),
    ("resnet18", "layer4.0.conv2", 7),
    ("resnet50", "layer1.0.conv3", 56),
    ("resnet50", "layer2.0.downsample.0", 56),
    ("resnet50", "layer4.0.conv3", 7),
    ("resnext50_32x4d", "layer2.1.conv2", 28),
];

struct Case {
    network: &'static str,
    layer: Convolution,
    side: usize,
    algorithm: Algorithm,
    precision: Precision,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.network, self.layer.name)?;
        match self.algorithm {
            Algorithm::Matrix => write!(f, "matrix"),
            Algorithm::MatrixBf16 => write!(f, "matrix bf16"),
            Algorithm::Winograd(Scheme { tile, .. }) => write!(f, "winograd {tile}x{tile}"),
        }
    }
}

fn cases() -> Vec<Case> {
    let cases = LAYERS.into_iter().flat_map(|(network, name, side)| {
        let convolutions = Architecture::new(network, 1000).expect("a known name").convolutions();
        let layer = convolutions.into_iter().find(|layer| layer.name == name).expect("a layer of it");
        let algorithms = algorithms(&layer);
        algorithms.into_iter().map(move |(algorithm, precision)| Case {
            network,
            layer: layer.clone(),
            side,
            algorithm,
            precision,
        })
    });
    cases.collect()
}

fn algorithms(layer: &Convolution) -> Vec<(Algorithm, Precision)> {
    let mut algorithms = vec![(Algorithm::Matrix, Precision::F32)];
    if layer.in_channels > 3 && InstructionSet::best().has_pairs() {
        algorithms.push((Algorithm::MatrixBf16, Precision::Bf16));
    }
    let tiles = match (layer.kernel, layer.stride, layer.groups) {
        (3, 1, 1) => 2..5,
        (3, 2, 1) => 2..3,
        _ => 0..0,
    };
    let stride = layer.stride;
    algorithms.extend(tiles.map(|tile| (Algorithm::Winograd(Scheme { tile, stride }), Precision::F32)));
    algorithms
}

#[divan::bench(args = cases(), consts = [1, 8])]
fn batch<const BATCH: usize>(bencher: Bencher, case: &Case) {
    let Case { layer, side, algorithm, precision, .. } = case;
    let options = CpuOptions { precision: *precision, ..CpuOptions::default() };
    let mut alone =
        Alone::new(layer.clone(), *algorithm, [BATCH, *side], options).expect("the device cpu is everywhere");
    let pixels = BATCH * layer.output_size(*side).pow(2);
    let multiply_adds = layer.weight_shape().iter().product::<usize>() * pixels;
    bencher.counter(ItemsCount::new(multiply_adds)).bench_local(|| alone.run());
}
