//! Compares the outputs of modules, and grids of images, with torchvision's. `feature_maps/make.py` writes the golden file.
#![cfg(feature = "burn")]

use burn::tensor::{Device as BurnDevice, Tensor, TensorData};
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, Input};
use model::explain::{Scaling, grid_size, image_grid};
use model::network::{ResNet, normalise};
use model::plan::{Plan, Tap};
use model::preprocess::{ImageBatch, Preprocessing};
use model::random::{self, Uniform};
use pollster::block_on;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Tolerance relative to the largest absolute value of an output.
const TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Golden {
    seed: u64,
    image: [usize; 2],
    grids: Vec<GoldenGrid>,
    /// Modules by checkpoint, in the order of computation.
    networks: BTreeMap<String, Vec<GoldenOutput>>,
}

#[derive(Deserialize)]
struct GoldenGrid {
    shape: [usize; 4],
    scale_each: bool,
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

#[derive(Deserialize)]
struct GoldenOutput {
    name: String,
    shape: [usize; 3],
    minimum: f64,
    maximum: f64,
    mean: f64,
    values: Vec<f64>,
}

impl GoldenOutput {
    /// Asserts that an output `[1, channels, height, width]` has these values.
    fn assert_near(&self, values: &[f32], shape: [usize; 4], what: &str) {
        assert_eq!(shape[1..], self.shape, "{what}: {}", self.name);
        assert_eq!(values.len(), self.shape.iter().product::<usize>(), "{what}: {}", self.name);
        let tolerance = TOLERANCE * self.maximum.abs().max(self.minimum.abs());
        let numbers = values.iter().copied().map(f64::from);
        let minimum = numbers.clone().fold(f64::INFINITY, f64::min);
        let maximum = numbers.clone().fold(f64::NEG_INFINITY, f64::max);
        let mean = numbers.sum::<f64>() / values.len() as f64;
        let count = self.values.len();
        let picked = (0..count).map(|index| f64::from(values[index * values.len() / count]));
        let expected = [self.minimum, self.maximum, self.mean].into_iter().chain(self.values.iter().copied());
        for (index, (found, expected)) in [minimum, maximum, mean].into_iter().chain(picked).zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference < tolerance, "{what}: {}, number {index}: {found}, expected {expected}", self.name);
        }
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("feature_maps/golden.json")).unwrap()
}

fn bundled(name: &str) -> Checkpoint {
    Checkpoint::from_path(format!("{}/../checkpoints/{name}.safetensors", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn image(golden: &Golden) -> ImageBatch {
    let [height, width] = golden.image;
    let Preprocessing { mean, std, .. } = Preprocessing::default();
    ImageBatch::new(random::pixels(golden.seed, height * width * 3), [1, height, width], mean, std).unwrap()
}

#[test]
fn modules_of_the_network_equal_torchvisions() {
    let golden = golden();
    let device = BurnDevice::flex();
    let images = normalise(&image(&golden), &device);
    for (name, modules) in &golden.networks {
        let checkpoint = bundled(name);
        let network = ResNet::from_checkpoint(&checkpoint, &device);
        let mut expected = modules.iter();
        network.visit_modules(&checkpoint.architecture(), images.clone(), |module, output| {
            let Some(expected) = expected.next() else { return };
            assert_eq!(module, expected.name);
            let values: Vec<f32> = output.to_data().iter().collect();
            expected.assert_near(&values, output.dims(), name);
        });
        assert!(expected.next().is_none(), "{name}: the network has too few modules");
    }
}

#[test]
fn taps_of_the_plan_equal_torchvisions_modules() {
    let golden = golden();
    let input = Input::Pixels(image(&golden));
    for (name, modules) in &golden.networks {
        let checkpoint = bundled(name);
        let architecture = checkpoint.architecture();
        let expected: Vec<(Tap, &GoldenOutput)> =
            modules.iter().filter_map(|module| Some((Tap::of_module(&module.name, &architecture)?, module))).collect();
        assert!(expected.len() >= 6, "{name}: only {} taps", expected.len());
        let taps: Vec<Tap> = expected.iter().map(|(tap, _)| *tap).collect();
        let engine = block_on(Engine::prepare(Plan::from(checkpoint), Device::Cpu)).unwrap();
        let output = block_on(engine.run(&input, &taps)).unwrap();
        for (activation, (tap, expected)) in output.activations.iter().zip(expected) {
            assert_eq!(activation.tap, tap);
            expected.assert_near(&activation.values, activation.shape, name);
        }
    }
}

#[test]
fn grids_equal_those_that_torchvision_saves() {
    let golden = golden();
    for grid in &golden.grids {
        let values: Vec<f32> = Uniform::new(golden.seed).take(grid.shape.iter().product()).collect();
        let scaling = if grid.scale_each { Scaling::EachImage } else { Scaling::AllImages };
        let photo = image_grid(&values, grid.shape, scaling);
        let what = format!("{:?}, {scaling:?}", grid.shape);
        assert_eq!([photo.width() as usize, photo.height() as usize], [grid.width, grid.height], "{what}");
        assert!(photo.pixels() == grid.pixels, "{what}: other pixels");
        let [count, _, height, width] = grid.shape;
        assert_eq!(grid_size(count, [height, width]), [grid.width, grid.height], "{what}");
    }
}

#[test]
fn modules_are_visited_in_the_order_of_their_names() {
    let device = BurnDevice::flex();
    for name in ["resnet18", "resnet50_v1", "resnext50_32x4d"] {
        let architecture = Architecture::new(name, 3).unwrap();
        let network = ResNet::from_checkpoint(&random::checkpoint(architecture), &device);
        let images = Tensor::from_data(TensorData::new(vec![0.5f32; 3 * 32 * 32], [1, 3, 32, 32]), &device);
        let mut visited = Vec::new();
        network.visit_modules(&architecture, images, |module, _| visited.push(module.to_owned()));
        assert_eq!(visited, architecture.module_names(), "{name}");
    }
}
