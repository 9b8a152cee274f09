//! Single convolutions on the CPU engine, each by every algorithm that computes it. Counted are the multiply-adds of the
//! layer as it is defined, on all cores. Weights stay in the caches here, while in a network they come from memory: what
//! that costs, `trainer bench --layers` shows.
//!
//! `cargo bench -p model --bench convolutions`, and with `-- 'winograd'` or `-- 'layer3'` a part.

use divan::Bencher;
use divan::counter::ItemsCount;
use model::architecture::{Architecture, Convolution};
use model::engine::cpu::{Algorithm, Alone, InstructionSet};
use model::engine::{EngineOptions, Precision};
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
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.layer.name, self.algorithm)
    }
}

fn cases() -> Vec<Case> {
    let precision = if InstructionSet::best().has_bf16() { Precision::Bf16 } else { Precision::F32 };
    let cases = LAYERS.into_iter().flat_map(|(network, name, side)| {
        let convolutions = Architecture::new(network, 1000).expect("a known name").convolutions();
        let layer = convolutions.into_iter().find(|layer| layer.name == name).expect("a layer of it");
        let algorithms = Algorithm::candidates(&layer, precision);
        algorithms.map(move |algorithm| Case { network, layer: layer.clone(), side, algorithm })
    });
    cases.collect()
}

#[divan::bench(args = cases())]
fn convolution(bencher: Bencher, case: &Case) {
    let Case { layer, side, algorithm, .. } = case;
    let alone = Alone::new(layer.clone(), *algorithm, [1, *side], EngineOptions::default());
    let mut alone = alone.expect("the device cpu is everywhere");
    let multiply_adds = layer.weight_shape().iter().product::<usize>() * layer.output_size(*side).pow(2);
    bencher.counter(ItemsCount::new(multiply_adds)).bench_local(|| alone.run());
}
