//! Compares the plan on every engine with the Burn network, which is the reference.
#![cfg(feature = "burn")]

mod common;

use burn::module::Module;
use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use common::{architectures_with_all_layers, pruned, relative_difference};
use model::architecture::{Architecture, Stem, TensorKind};
use model::engine::{Device, Engine, Input, Normalised};
use model::network::{Initialisation, ResNet};
use model::plan::{Plan, Stage, Tap};
use model::random::{self, Uniform};
use pollster::block_on;

fn random_images([batch, height, width]: [usize; 3]) -> Normalised {
    let values = Uniform::new(7).take(batch * 3 * height * width).map(|x| 2.0 * x).collect();
    Normalised::new(values, [batch, height, width]).unwrap()
}

/// Returns the devices that this build supports on any machine.
fn devices() -> Vec<Device> {
    let webgpu = cfg!(feature = "webgpu").then_some(Device::WebGpu(0));
    [Device::Flex, Device::Cpu].into_iter().chain(webgpu).collect()
}

/// Asserts that an architecture's plan has the logits and activations of the Burn network on each device, and that the
/// network's tensors are those of the checkpoint.
fn assert_agreement(architecture: Architecture, shape: [usize; 3], devices: &[Device]) {
    let checkpoint = random::checkpoint(architecture);
    let images = random_images(shape);
    let device = BurnDevice::flex();
    let data = TensorData::new(images.values().to_vec(), [shape[0], 3, shape[1], shape[2]]);
    let network = ResNet::from_checkpoint(&checkpoint, &device);
    let tensors = network.tensors(&architecture);
    assert_eq!(tensors.len(), architecture.tensors().len());
    for (name, values) in tensors {
        assert!(values == checkpoint.values(&name), "{architecture}: {name} differs from the checkpoint");
    }
    let (logits, activations) = network.forward_with_taps(Tensor::from_data(data, &device));

    let logits: Vec<f32> = logits.into_data().iter().collect();
    let activations: Vec<([usize; 4], Vec<f32>)> =
        activations.into_iter().map(|tensor| (tensor.dims(), tensor.into_data().iter().collect())).collect();
    let plan = Plan::from(checkpoint);
    for &device in devices {
        let engine = block_on(Engine::prepare(plan.clone(), device)).unwrap();
        let output = block_on(engine.run(&Input::Normalised(images.clone()), &Tap::STEM_AND_STAGES)).unwrap();
        let difference = relative_difference(&output.logits.values, &logits);
        assert!(difference < 1e-4, "{architecture} on {device}: logits differ by {difference}");
        for (activation, (shape, values)) in output.activations.iter().zip(&activations) {
            assert_eq!(&activation.shape, shape, "{architecture} on {device}: {:?}", activation.tap);
            let difference = relative_difference(&activation.values, values);
            assert!(difference < 1e-4, "{architecture} on {device}: {:?} differs by {difference}", activation.tap);
        }
    }
}

#[test]
fn pruned_networks_agree_on_every_engine() {
    for (name, shape) in [("resnet18", [3, 64, 75]), ("resnet50", [1, 97, 64]), ("resnext50_32x4d", [1, 64, 64])] {
        assert_agreement(pruned(name, 10), shape, &devices());
    }
    assert_agreement(Architecture { stem: Stem::Small, ..pruned("resnet18", 10) }, [2, 32, 29], &devices());
}

#[test]
fn taps_of_blocks_agree_with_the_network_on_every_engine() {
    for name in ["resnet18", "resnet50"] {
        let architecture = Architecture::new(name, 5).unwrap();
        let checkpoint = random::checkpoint(architecture);
        let (shape, flex) = ([2, 64, 48], BurnDevice::flex());
        let images = random_images(shape);
        let data = TensorData::new(images.values().to_vec(), [shape[0], 3, shape[1], shape[2]]);
        let taps = Tap::all(&architecture);
        let mut expected: Vec<(Tap, Vec<f32>)> = Vec::new();
        let network = ResNet::from_checkpoint(&checkpoint, &flex);
        network.visit_modules(&architecture, Tensor::from_data(data, &flex), |module, output| {
            let tap = Tap::of_module(module, &architecture);
            expected.extend(tap.map(|tap| (tap, output.to_data().iter().collect())));
        });
        for device in devices() {
            let engine = block_on(Engine::prepare(Plan::new(&checkpoint), device)).unwrap();
            let output = block_on(engine.run(&Input::Normalised(images.clone()), &taps)).unwrap();
            assert_eq!(output.activations.len(), expected.len());
            for (activation, (tap, values)) in output.activations.iter().zip(&expected) {
                assert_eq!(activation.tap, *tap);
                let shape = tap.shape(&architecture, [shape[1], shape[2]]);
                assert_eq!(shape, Some(activation.shape[1..].try_into().unwrap()), "{name}: {tap}");
                let difference = relative_difference(&activation.values, values);
                assert!(difference < 1e-4, "{name} on {device}: {tap} differs by {difference}");
            }
            let unknown = Tap::Block(Stage::One, 99);
            let error = block_on(engine.run(&Input::Normalised(images.clone()), &[unknown])).unwrap_err();
            assert!(error.to_string().contains("layer1.99"), "{error}");
            assert_eq!(unknown.shape(&architecture, [64, 48]), None);
        }
    }
}

/// The engines with kernels of their own run only the architectures whose layers others do not have, and the deepest one on
/// the CPU.
#[test]
fn engines_agree_with_the_network_on_every_architecture() {
    let all_layers = architectures_with_all_layers(7);
    for name in Architecture::names() {
        let architecture = Architecture::new(&name, 7).unwrap();
        let devices = match name.as_str() {
            _ if all_layers.contains(&architecture) => devices(),
            "resnet152" => vec![Device::Flex, Device::Cpu],
            _ => vec![Device::Flex],
        };
        assert_agreement(architecture, [2, 64, 64], &devices);
    }
}

/// The network is slow, so it runs for two images of each size only, and all batches consist of copies of them;
/// `cpu_networks.rs` tests that outputs do not depend on the batch. For large images, a batch of eight would cover
/// nothing that a batch of three does not.
#[test]
fn cpu_engine_agrees_with_the_network_for_many_sizes_and_batches() {
    for architecture in architectures_with_all_layers(11) {
        let checkpoint = random::checkpoint(architecture);
        let network = ResNet::from_checkpoint(&checkpoint, &BurnDevice::flex());
        let engine = block_on(Engine::prepare(Plan::from(checkpoint), Device::Cpu)).unwrap();
        for size in [32, 64, 160, 224, 257] {
            let images = random_images([2, size, size]);
            let data = TensorData::new(images.values().to_vec(), [2, 3, size, size]);
            let reference = network.forward(Tensor::from_data(data, &BurnDevice::flex())).into_data();
            let reference: Vec<f32> = reference.iter().collect();
            // No shift and no swap of two different images maps this order to itself.
            let order = [0, 1, 1, 0, 1, 0, 0, 1];
            let batches: &[usize] = if size < 224 { &[1, 3, 8] } else { &[1, 3] };
            for &batch in batches {
                let input = Normalised::stack(order[..batch].iter().map(|&index| images.image(index))).unwrap();
                let logits = block_on(engine.run(&Input::Normalised(input), &[])).unwrap().logits.values;
                let expected: Vec<f32> =
                    order[..batch].iter().flat_map(|&index| &reference[index * 11..][..11]).copied().collect();
                let difference = relative_difference(&logits, &expected);
                assert!(
                    difference < 3e-4,
                    "{architecture}, batch {batch}, {size}x{size}: logits differ by {difference}"
                );
            }
        }
    }
}

#[test]
fn engines_agree_with_the_network_on_every_stem() {
    for stem in [Stem::ImagenetStride1, Stem::Small] {
        assert_agreement(Architecture { stem, ..Architecture::new("resnet18", 10).unwrap() }, [3, 32, 33], &devices());
    }
    let bottlenecks = Architecture::new("resnet50", 10).unwrap();
    assert_agreement(Architecture { stem: Stem::Small, ..bottlenecks }, [1, 32, 29], &devices());
}

#[test]
fn engines_agree_with_the_network_on_large_rectangular_images() {
    assert_agreement(Architecture::new("resnet18", 10).unwrap(), [1, 512, 365], &devices());
}

/// Burn counts parameters by their shapes, so weights are never initialised here. Its count includes running
/// statistics.
#[test]
fn network_has_the_parameters_of_the_architecture_table() {
    for name in Architecture::names() {
        let architecture = Architecture::new(&name, 1000).unwrap();
        let network = ResNet::new(&architecture, Initialisation::default(), &BurnDevice::flex());
        let statistics = architecture.tensors().into_iter().filter(|spec| spec.kind == TensorKind::Statistic);
        let statistics: usize = statistics.map(|spec| spec.shape.iter().product::<usize>()).sum();
        assert_eq!(network.num_params(), architecture.parameter_count() + statistics, "{name}");
    }
}

#[test]
fn initialisation_matches_pytorch() {
    let architecture = Architecture::new("resnext50_32x4d", 10).unwrap();
    let device = BurnDevice::flex();
    device.seed(1);
    let network = ResNet::new(&architecture, Initialisation { zero_last_norm: true }, &device);
    let tensors = network.tensors(&architecture);
    // The fan-out of a grouped convolution includes all of its output channels.
    let weight = &tensors["layer3.0.conv2.weight"];
    let variance = weight.iter().map(|x| x * x).sum::<f32>() / weight.len() as f32;
    let expected = 2.0 / (512.0 * 9.0);
    assert!((variance / expected - 1.0).abs() < 0.05, "{variance} instead of {expected}");
    assert!(tensors["layer3.0.bn3.weight"].iter().all(|&scale| scale == 0.0));
    assert!(tensors["layer3.0.bn2.weight"].iter().all(|&scale| scale == 1.0));
}

#[test]
fn gradients_flow_through_zero_initialised_blocks_and_running_statistics_update() {
    let architecture = Architecture { stem: Stem::Small, ..Architecture::new("resnet18", 4).unwrap() };
    let device = BurnDevice::flex().autodiff();
    let network = ResNet::new(&architecture, Initialisation { zero_last_norm: true }, &device);
    let images = random_images([2, 16, 16]);
    let data = TensorData::new(images.values().to_vec(), [2, 3, 16, 16]);
    let images = Tensor::<4>::from_data(data, &device).require_grad();
    let before = network.tensors(&architecture);
    let gradients = network.forward(images.clone()).powf_scalar(2.0).mean().backward();
    let gradient = images.grad(&gradients).expect("the input is tracked").abs().max().into_data();
    assert!(gradient.iter::<f32>().all(|largest| largest > 0.0));
    let after = network.tensors(&architecture);
    assert_ne!(before["bn1.running_mean"], after["bn1.running_mean"], "training updates the running statistics");
}
