//! Benchmarks of single convolutions on the CPU engine, with every algorithm that can compute them, on all cores. The
//! throughput counts the multiply-adds of the layer by its definition. Weights stay in the caches here, while they are
//! read from memory in a network; `trainer bench --layers` measures layers within a network.
//!
//! `cargo bench -p model --bench convolutions`; append `-- 'winograd'` or `-- 'layer3'` to run only some of them.

use divan::Bencher;
use divan::counter::ItemsCount;
use model::architecture::{Architecture, Convolution};
use model::engine::cpu::{Algorithm, InstructionSet, SingleConvolution};
use model::engine::{EngineOptions, Precision};
use std::fmt;

fn main() {
    divan::main();
}

/// Layers of different kinds: architecture, name of the convolution, and side of its input for 224x224 images.
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
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.layer.name, self.algorithm)
    }
}

fn cases() -> Vec<Case> {
    let precision = if InstructionSet::best().supports_bf16() { Precision::Bf16 } else { Precision::F32 };
    let cases = LAYERS.into_iter().flat_map(|(network, name, side)| {
        let convolutions = Architecture::new(network, 1000).expect("the architecture exists").convolutions();
        let layer = convolutions.into_iter().find(|layer| layer.name == name).expect("the layer exists");
        let algorithms = Algorithm::candidates(&layer, precision, InstructionSet::best());
        algorithms.map(move |algorithm| Case { network, layer: layer.clone(), side, algorithm })
    });
    cases.collect()
}

#[divan::bench(args = cases())]
fn convolution(bencher: Bencher, case: &Case) {
    let Case { layer, side, algorithm, .. } = case;
    let single = SingleConvolution::new(layer.clone(), *algorithm, [1, *side, *side], EngineOptions::default());
    let mut single = single.expect("the device cpu is always available");
    let multiply_adds = layer.weight_shape().iter().product::<usize>() * layer.output_size(*side).pow(2);
    bencher.counter(ItemsCount::new(multiply_adds)).bench_local(|| single.run());
}
