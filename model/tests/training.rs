//! Training on the CPU compared with Burn: logits, the gradients of all parameters and the running statistics, for the
//! layers of every architecture, and the same bits for any number of threads.

#![cfg(feature = "burn")]

mod common;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use common::{architectures_with_all_layers, pruned};
use model::architecture::{Architecture, Stem, TensorKind};
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::cpu::InstructionSet;
use model::engine::{Input, Normalised, Precision};
use model::network::ResNet;
use model::random::{self, Uniform};
use model::training::{TrainingNetwork, TrainingOptions};
use std::collections::BTreeMap;
use std::num::NonZero;

/// Relative tolerance of the gradients of deep networks, in which a few inputs of ReLUs are so near zero that their signs
/// differ between both implementations. The unit tests of the kernels are stricter.
const GRADIENT_TOLERANCE: f64 = 1e-2;

/// Result of a forward and backward pass.
struct Pass {
    logits: Vec<f32>,
    /// Gradient of each parameter, in torchvision's order and layout.
    gradients: Vec<Vec<f32>>,
    /// Parameters and running statistics after the pass.
    tensors: BTreeMap<String, Vec<f32>>,
}

/// Returns random weights with which few inputs of a ReLU are near zero: their mean is three standard deviations above or
/// below it. Otherwise, tiny differences between both implementations would change signs, and thereby whole gradients.
fn checkpoint(architecture: Architecture) -> Checkpoint {
    let checkpoint = random::checkpoint(architecture);
    let mut tensors: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for tensor in architecture.tensors() {
        let mut values = checkpoint.values(&tensor.name);
        let is_norm = tensor.kind == TensorKind::Vector && !tensor.name.starts_with("fc.");
        if is_norm && tensor.name.ends_with(".weight") {
            values.iter_mut().for_each(|gamma| *gamma = 0.4 + 0.1 * *gamma);
        } else if is_norm {
            values.iter_mut().for_each(|beta| *beta = (1.5 + beta.abs()).copysign(*beta));
        }
        tensors.insert(tensor.name, values);
    }
    Checkpoint::new(Metadata::new(architecture), tensors).unwrap()
}

/// Returns random normalised images.
fn images([batch, height, width]: [usize; 3]) -> Vec<f32> {
    Uniform::new(7).take(batch * 3 * height * width).collect()
}

/// Returns the gradient of the loss with respect to the logits: the loss is the sum of the logits, weighted by it.
fn logit_gradients(count: usize) -> Vec<f32> {
    Uniform::new(8).take(count).collect()
}

fn options(threads: usize, set: InstructionSet) -> TrainingOptions {
    TrainingOptions { threads: NonZero::new(threads), instruction_set: Some(set), ..TrainingOptions::default() }
}

/// Returns the precisions that an instruction set supports.
fn precisions(set: InstructionSet) -> Vec<Precision> {
    [Some(Precision::F32), set.supports_bf16().then_some(Precision::Bf16)].into_iter().flatten().collect()
}

fn train(checkpoint: &Checkpoint, shape: [usize; 3], options: TrainingOptions) -> Pass {
    let mut network = TrainingNetwork::new(checkpoint, options).unwrap();
    let input = Input::Normalised(Normalised::new(images(shape), shape).unwrap());
    let logits = network.forward(&input);
    network.backward(&logit_gradients(logits.len()));
    let ranges = network.layout().parameters.iter().map(|tensor| tensor.range.clone());
    let gradients = ranges.map(|range| network.gradients()[range].to_vec()).collect();
    Pass { logits, gradients, tensors: network.tensors() }
}

fn train_with_burn(checkpoint: &Checkpoint, shape: [usize; 3]) -> Pass {
    struct CollectGradients<'a> {
        gradients: &'a Gradients,
        values: Vec<Vec<f32>>,
    }
    impl ModuleVisitor for CollectGradients<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
                self.values.push(gradient.into_data().iter().collect());
            }
        }
    }
    let device = Device::flex().autodiff();
    let network = ResNet::from_checkpoint(checkpoint, &device);
    let [batch, height, width] = shape;
    let images = TensorData::new(images(shape), [batch, 3, height, width]);
    let logits = network.forward(Tensor::from_data(images, &device));
    let [_, classes] = logits.dims();
    let weights = TensorData::new(logit_gradients(batch * classes), [batch, classes]);
    let loss = (logits.clone() * Tensor::from_data(weights, &device)).sum();
    let gradients = loss.backward();
    let mut visitor = CollectGradients { gradients: &gradients, values: Vec::new() };
    network.visit(&mut visitor);
    // Burn's classifier has the transposed weight, the last tensor but one.
    let mut values = visitor.values;
    let index = values.len() - 2;
    let features = values[index].len() / classes;
    values[index] = (0..values[index].len()).map(|at| values[index][at % features * classes + at / features]).collect();
    Pass {
        logits: logits.into_data().iter().collect(),
        gradients: values,
        tensors: network.tensors(&checkpoint.architecture()),
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Asserts that the norm of the difference is less than `tolerance` times the larger of `scale` and the norm of the
/// expected values.
fn assert_near(actual: &[f32], expected: &[f32], scale: f64, tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let differences: Vec<f32> = actual.iter().zip(expected).map(|(a, b)| a - b).collect();
    let error = norm(&differences) / norm(expected).max(scale);
    assert!(error < tolerance, "{what}: relative error {error}");
}

/// Compares a forward and backward pass with Burn.
fn assert_matches_burn(architecture: Architecture, shape: [usize; 3], set: InstructionSet) {
    let checkpoint = checkpoint(architecture);
    let actual = train(&checkpoint, shape, options(2, set));
    let expected = train_with_burn(&checkpoint, shape);
    let name = format!("{architecture} {:?} {shape:?} {set}", architecture.stem);
    assert_near(&actual.logits, &expected.logits, 0.0, 1e-4, &format!("{name}, logits"));
    let names = architecture.tensors().into_iter().filter(|tensor| tensor.kind != TensorKind::Statistic);
    // Some gradients are zero but for rounding: a constant that is added before a batch norm has no effect.
    let scale = 1e-3 * expected.gradients.iter().map(|gradient| norm(gradient)).fold(0.0, f64::max);
    for ((tensor, actual), expected) in names.zip(&actual.gradients).zip(&expected.gradients) {
        assert_near(actual, expected, scale, GRADIENT_TOLERANCE, &format!("{name}, gradient of {}", tensor.name));
    }
    for (tensor, expected) in &expected.tensors {
        assert_near(&actual.tensors[tensor], expected, 0.0, 1e-4, &format!("{name}, {tensor}"));
    }
}

#[test]
fn all_layers_match_burn() {
    for architecture in architectures_with_all_layers(7) {
        assert_matches_burn(architecture, [3, 64, 64], InstructionSet::best());
    }
}

/// Odd sides, and the stems `small` and `imagenet-stride1`.
#[test]
fn odd_shapes_and_other_stems_match_burn() {
    for (name, stem, shape) in [
        ("resnet18", Stem::Imagenet, [2, 97, 67]),
        ("resnet18", Stem::ImagenetStride1, [3, 33, 41]),
        ("resnet18", Stem::Small, [5, 19, 32]),
        ("resnet50", Stem::Small, [2, 17, 23]),
        ("resnet18", Stem::Imagenet, [4, 16, 20]),
        ("resnet50_v1", Stem::Imagenet, [2, 71, 100]),
        ("resnext50_32x4d", Stem::Imagenet, [2, 75, 65]),
    ] {
        assert_matches_burn(
            Architecture { stem, ..Architecture::new(name, 5).unwrap() },
            shape,
            InstructionSet::best(),
        );
    }
}

#[test]
fn every_instruction_set_matches_burn() {
    for set in InstructionSet::available() {
        assert_matches_burn(Architecture::new("resnet18", 10).unwrap(), [2, 45, 64], set);
        assert_matches_burn(Architecture::new("resnext50_32x4d", 10).unwrap(), [1, 33, 33], set);
    }
}

#[test]
fn pruned_networks_match_burn() {
    for set in InstructionSet::available() {
        assert_matches_burn(pruned("resnet18", 10), [2, 45, 64], set);
    }
    assert_matches_burn(pruned("resnet50", 10), [3, 64, 64], InstructionSet::best());
}

#[test]
fn any_number_of_threads_and_gradient_checkpointing_give_the_same_bits() {
    let set = InstructionSet::best();
    for (name, shape) in [("resnet18", [4, 64, 64]), ("resnext50_32x4d", [3, 48, 33])] {
        let checkpoint = checkpoint(Architecture::new(name, 10).unwrap());
        for precision in precisions(set) {
            let options = |threads| TrainingOptions { precision, ..options(threads, set) };
            let expected = train(&checkpoint, shape, options(1));
            for (threads, gradient_checkpointing) in [(2, false), (3, false), (7, false), (2, true)] {
                let actual = train(&checkpoint, shape, TrainingOptions { gradient_checkpointing, ..options(threads) });
                let what =
                    format!("{name}, {precision}, {threads} threads, gradient checkpointing: {gradient_checkpointing}");
                assert!(actual.logits == expected.logits && actual.tensors == expected.tensors, "{what}");
                assert!(actual.gradients == expected.gradients, "{what}");
            }
        }
    }
}

/// In a batch this large, most layers compute in bf16. Rounding errors add up over the layers, and the signs of some inputs
/// of ReLUs change.
#[test]
fn bf16_is_close_to_f32() {
    let set = InstructionSet::best();
    for name in ["resnet18", "resnet50"] {
        let checkpoint = checkpoint(Architecture::new(name, 10).unwrap());
        let shape = [8, 96, 96];
        let exact = train(&checkpoint, shape, options(2, set));
        for precision in precisions(set).into_iter().skip(1) {
            let actual = train(&checkpoint, shape, TrainingOptions { precision, ..options(2, set) });
            assert_near(&actual.logits, &exact.logits, 0.0, 0.02, &format!("{name}, logits"));
            assert_near(
                &actual.gradients.concat(),
                &exact.gradients.concat(),
                0.0,
                0.05,
                &format!("{name}, gradients"),
            );
            assert!(actual.logits != exact.logits, "{name}: bf16 has no effect");
        }
    }
}

/// The memory of one shape is reused by the next: nothing of the earlier batch remains.
#[test]
fn batches_of_different_shapes_do_not_influence_each_other() {
    let checkpoint = checkpoint(Architecture::new("resnet18", 10).unwrap());
    let mut network = TrainingNetwork::new(&checkpoint, options(2, InstructionSet::best())).unwrap();
    for shape in [[4, 64, 64], [3, 40, 72], [4, 64, 64], [1, 33, 33]] {
        network.load(&checkpoint);
        network.gradients_mut().fill(0.0);
        let logits = network.forward(&Input::Normalised(Normalised::new(images(shape), shape).unwrap()));
        network.backward(&logit_gradients(logits.len()));
        let expected = train(&checkpoint, shape, options(2, InstructionSet::best()));
        assert!(logits == expected.logits && network.gradients() == expected.gradients.concat(), "{shape:?}");
    }
}
