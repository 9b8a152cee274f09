//! Golden test: twenty training steps in several configurations of a recipe, compared with PyTorch. The expected values
//! come from `tests/golden/training.py`, which documents them.

use super::learner::{Learner, StepOutcome};
use super::mixing::MixingPlan;
use super::trainable_network::LearnerInput;
use crate::data::strided_part;
use crate::recipe::{ClassWeights, Recipe};
use crate::replicas::{Collective, HostCollective, replica_devices};
use model::architecture::{Architecture, Block, Stem, StridePlacement, Variant};
use model::checkpoint::Checkpoint;
use model::engine::Device;
use model::preprocess::{ImageBatch, Preprocessing};
use model::random::{self, Uniform};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Golden {
    steps: usize,
    batch: usize,
    side: usize,
    start: ExpectedStart,
    configurations: BTreeMap<String, Configuration>,
}

#[derive(Deserialize)]
struct ExpectedStart {
    tensors: BTreeMap<String, Vec<f64>>,
    pixel_sum: u64,
}

#[derive(Deserialize)]
struct Configuration {
    /// Keys of the recipe and their values.
    settings: BTreeMap<String, Value>,
    losses: Vec<f64>,
    tensors: BTreeMap<String, Summary>,
}

/// L2 norm of a tensor after the last step, and values at evenly spaced positions.
#[derive(Deserialize)]
struct Summary {
    l2: f64,
    values: Vec<f64>,
}

static ONE_BLOCK_PER_STAGE: Variant =
    Variant { name: "resnet18", block: Block::Basic, depths: [1; 4], groups: 1, width_per_group: 64 };

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/training.json")).unwrap()
}

/// Returns a network with one block per stage and 10 classes.
pub fn small_checkpoint() -> Checkpoint {
    let (stride_placement, stem) = (StridePlacement::Middle, Stem::Imagenet);
    let variant = &ONE_BLOCK_PER_STAGE;
    random::checkpoint(Architecture { variant, stride_placement, stem, classes: 10, widths: None })
}

/// Returns the pixels of the images of a step, u8 RGB `[count, side, side, 3]`, and their classes.
pub fn batch(step: usize, count: usize, side: usize) -> (Vec<u8>, Vec<usize>) {
    let pixels = random::pixels(1000 + step as u64, count * side * side * 3);
    (pixels, (0..count).map(|index| (7 * index + 3 * step) % 10).collect())
}

/// Returns the logits of a teacher for the images of a step, `[count, 10]`, row by row.
fn teacher_logits(step: usize, count: usize) -> Vec<f32> {
    Uniform::new(5000 + step as u64).take(count * 10).map(|value| 4.0 * value).collect()
}

/// Runs the forward and backward pass on the part with this index of a batch that is divided into `parts`.
pub fn forward_backward_part(learner: &mut Learner, batch: &(Vec<u8>, Vec<usize>), index: usize, parts: usize) {
    forward_backward_student(learner, batch, None, index, parts);
}

/// Does the same with the logits of a teacher for the whole batch, if there is one.
fn forward_backward_student(
    learner: &mut Learner,
    (pixels, classes): &(Vec<u8>, Vec<usize>),
    teacher_logits: Option<&[f32]>,
    index: usize,
    parts: usize,
) {
    let rows = |logits: &[f32]| -> Vec<Vec<f32>> { logits.chunks_exact(10).map(<[f32]>::to_vec).collect() };
    let teacher_logits = teacher_logits.map(|logits| strided_part(&rows(logits), index, parts).concat());
    let images: Vec<&[u8]> = pixels.chunks_exact(pixels.len() / classes.len()).collect();
    let (images, classes) = (strided_part(&images, index, parts), strided_part(classes, index, parts));
    let classes: Vec<_> = classes.into_iter().map(Some).collect();
    let side = (images[0].len() / 3).isqrt();
    let Preprocessing { mean, std, .. } = Preprocessing::default();
    let images = ImageBatch::new(images.concat(), [classes.len(), side, side], mean, std).unwrap();
    let input = LearnerInput::Photos(&images, MixingPlan::default());
    learner.forward_backward(input, &classes, teacher_logits.as_deref());
}

/// Returns the recipe `finetune` with the settings of a configuration; optional settings of `finetune` itself are
/// removed.
fn recipe(settings: &BTreeMap<String, Value>) -> Recipe {
    let removed =
        ["momentum=", "nesterov=", "label-smoothing=", "warmup-epochs=0", "warmup-factor=", "schedule=constant"];
    let settings = settings.iter().map(|(key, value)| format!("{key}={value}"));
    let changes: Vec<String> =
        removed.map(str::to_owned).into_iter().chain(settings).chain(["batch-size=32".to_owned()]).collect();
    Recipe::finetune_with(&changes.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Returns the values at the positions that a [`Summary`] holds.
fn sampled_values(values: &[f32]) -> impl Iterator<Item = f64> {
    let count = values.len().min(32);
    (0..count).map(move |index| f64::from(values[index * values.len() / count]))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn initial_weights_and_images_match_python() {
    let Golden { start: ExpectedStart { tensors, pixel_sum }, batch: count, side, .. } = golden();
    let start = small_checkpoint();
    for (name, expected) in tensors {
        let actual: Vec<f64> = start.values(&name)[..4].iter().map(|&value| f64::from(value)).collect();
        assert!(
            actual.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-8),
            "{name}: {actual:?}, not {expected:?}"
        );
    }
    assert_eq!(batch(0, count, side).0.iter().map(|&value| u64::from(value)).sum::<u64>(), pixel_sum);
}

fn assert_steps_match_pytorch(names: &[&str]) {
    [Device::Cpu, Device::Flex].into_iter().for_each(|device| assert_steps_on_device_match_pytorch(names, device));
}

fn assert_steps_on_device_match_pytorch(names: &[&str], device: Device) {
    let Golden { steps, batch: count, side, configurations, .. } = golden();
    for name in names {
        let Configuration { settings, losses, tensors } = &configurations[*name];
        let recipe = recipe(settings);
        let class_weights = match &recipe.class_weights {
            Some(ClassWeights::Each(weights)) => Some(weights.clone()),
            _ => None,
        };
        let start = small_checkpoint();
        let device = replica_devices(device, None, None).unwrap().remove(0);
        let mut learner = Learner::new(&start, &recipe, class_weights.clone(), 0, &device).unwrap();
        let collective = HostCollective::new(1).remove(0);
        for (step, expected) in losses.iter().enumerate().take(steps) {
            let batch = batch(step, count, side);
            let teacher_logits = recipe.distils().then(|| teacher_logits(step, count));
            for index in 0..recipe.accumulate {
                forward_backward_student(&mut learner, &batch, teacher_logits.as_deref(), index, recipe.accumulate);
            }
            let (StepOutcome::Applied(metrics), _) =
                learner.update(recipe.learning_rate, 0.0, &collective as &dyn Collective).unwrap()
            else {
                panic!("{name} diverged on {}", device.name);
            };
            let metrics = metrics.read();
            let loss = metrics.loss / metrics.weight;
            assert!(
                (loss / expected - 1.0).abs() < 1e-5,
                "{name} on {}, step {step}: {loss}, not {expected}",
                device.name
            );
        }
        let end = learner.checkpoint(start.metadata().clone()).unwrap();
        for (tensor, Summary { l2, values }) in tensors {
            let (actual, before) = (end.values(tensor), start.values(tensor));
            let largest = actual.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
            let differences: Vec<f64> = sampled_values(&actual).zip(values).map(|(a, b)| a - b).collect();
            let max_error = differences.iter().fold(0.0_f64, |max_error, value| max_error.max(value.abs()));
            assert!(
                max_error < 1e-4 * f64::from(largest),
                "{name} on {}, {tensor}: maximum error {max_error}",
                device.name
            );
            // Twenty small steps change the weights little; compare the error also with the size of the change.
            let change = norm(sampled_values(&before).zip(values).map(|(a, b)| a - b));
            let error = norm(differences.into_iter());
            assert!(
                error < 0.02 * change + 1e-6,
                "{name} on {}, {tensor}: error {error} after a change of {change}",
                device.name
            );
            let length = norm(actual.iter().map(|&value| f64::from(value)));
            assert!((length / l2 - 1.0).abs() < 1e-4, "{name} on {}, {tensor}: norm {length}, not {l2}", device.name);
        }
    }
}

#[test]
fn sgd_matches_pytorch() {
    assert_steps_match_pytorch(&["sgd", "sgd-plain"]);
}

#[test]
fn adamw_matches_pytorch_and_lamb_matches_the_paper() {
    assert_steps_match_pytorch(&["adamw", "lamb"]);
}

#[test]
fn class_weights_and_label_smoothing_match_pytorch() {
    assert_steps_match_pytorch(&["smoothing", "weights", "weights-smoothing"]);
}

#[test]
fn ema_accumulation_and_clipping_match_pytorch() {
    assert_steps_match_pytorch(&["ema", "accumulation", "clip"]);
}

#[test]
fn distillation_matches_pytorch() {
    assert_steps_match_pytorch(&["distillation"]);
}
