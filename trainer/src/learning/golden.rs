//! Twenty steps beside PyTorch's, in every way that a recipe can ask for. `tests/golden/training.py` tells what is compared.

use super::learner::{Learner, LearnerInput, StepOutcome};
use super::mixing::MixingPlan;
use crate::data::strided_part;
use crate::recipe::{ClassWeights, Recipe};
use crate::replicas::{Collective, HostCollective};
use burn::tensor::Device;
use model::architecture::{Architecture, Block, Stem, StridePlacement, Variant};
use model::checkpoint::Checkpoint;
use model::preprocess::{ImageBatch, Preprocessing};
use model::random;
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
    /// Keys of a recipe.
    settings: BTreeMap<String, Value>,
    losses: Vec<f64>,
    tensors: BTreeMap<String, Summary>,
}

/// Of a tensor at the end: its norm, and values at even distances.
#[derive(Deserialize)]
struct Summary {
    l2: f64,
    values: Vec<f64>,
}

static ONE_BLOCK_A_STAGE: Variant =
    Variant { name: "resnet18", block: Block::Basic, depths: [1; 4], groups: 1, width_per_group: 64 };

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/training.json")).unwrap()
}

/// A network small enough for a test.
pub fn small_checkpoint() -> Checkpoint {
    let (stride_placement, stem) = (StridePlacement::Middle, Stem::Imagenet);
    random::checkpoint(Architecture { variant: &ONE_BLOCK_A_STAGE, stride_placement, stem, classes: 10 })
}

/// The photos of a step, and their classes.
pub fn batch(step: usize, count: usize, side: usize) -> (Vec<u8>, Vec<usize>) {
    let pixels = random::pixels(1000 + step as u64, count * side * side * 3);
    (pixels, (0..count).map(|index| (7 * index + 3 * step) % 10).collect())
}

/// The `own`-th of so many parts of a batch.
pub fn forward_backward_part(
    learner: &mut Learner,
    (pixels, classes): &(Vec<u8>, Vec<usize>),
    index: usize,
    parts: usize,
) {
    let images: Vec<&[u8]> = pixels.chunks_exact(pixels.len() / classes.len()).collect();
    let (images, classes) = (strided_part(&images, index, parts), strided_part(classes, index, parts));
    let side = (images[0].len() / 3).isqrt();
    let Preprocessing { mean, std, .. } = Preprocessing::default();
    let images = ImageBatch::new(images.concat(), [classes.len(), side, side], mean, std).unwrap();
    learner.forward_backward(LearnerInput::Photos(&images, MixingPlan::default()), &classes);
}

/// `finetune` with settings of a configuration instead of its own.
fn recipe(settings: &BTreeMap<String, Value>) -> Recipe {
    let without =
        ["momentum=", "nesterov=", "label-smoothing=", "warmup-epochs=0", "warmup-factor=", "schedule=constant"];
    let settings = settings.iter().map(|(key, value)| format!("{key}={value}"));
    let changes: Vec<String> =
        without.map(str::to_owned).into_iter().chain(settings).chain(["batch-size=32".to_owned()]).collect();
    Recipe::finetune_with(&changes.iter().map(String::as_str).collect::<Vec<_>>())
}

/// As many as a summary holds.
fn sampled_values(values: &[f32]) -> impl Iterator<Item = f64> {
    let count = values.len().min(32);
    (0..count).map(move |index| f64::from(values[index * values.len() / count]))
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

#[test]
fn both_languages_start_alike() {
    let Golden { start: ExpectedStart { tensors, pixel_sum }, batch: count, side, .. } = golden();
    let start = small_checkpoint();
    for (name, expected) in tensors {
        let found: Vec<f64> = start.values(&name)[..4].iter().map(|&value| f64::from(value)).collect();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-8), "{name}: {found:?}, not {expected:?}");
    }
    assert_eq!(batch(0, count, side).0.iter().map(|&value| u64::from(value)).sum::<u64>(), pixel_sum);
}

fn assert_steps_match_pytorch(names: &[&str]) {
    let Golden { steps, batch: count, side, configurations, .. } = golden();
    for name in names {
        let Configuration { settings, losses, tensors } = &configurations[*name];
        let recipe = recipe(settings);
        let class_weights = match &recipe.class_weights {
            Some(ClassWeights::Each(weights)) => Some(weights.clone()),
            _ => None,
        };
        let start = small_checkpoint();
        let mut learner = Learner::new(&start, &recipe, class_weights, 0, &Device::flex());
        let collective = HostCollective::new(1).remove(0);
        for (step, expected) in losses.iter().enumerate().take(steps) {
            let batch = batch(step, count, side);
            (0..recipe.accumulate)
                .for_each(|index| forward_backward_part(&mut learner, &batch, index, recipe.accumulate));
            let (StepOutcome::Applied(metrics), _) =
                learner.update(recipe.learning_rate, 0.0, &collective as &dyn Collective).unwrap()
            else {
                panic!("{name} diverged");
            };
            let loss = metrics.loss / metrics.weight;
            assert!((loss / expected - 1.0).abs() < 1e-5, "{name}, step {step}: {loss}, not {expected}");
        }
        let end = learner.checkpoint(start.metadata().clone()).unwrap();
        for (tensor, Summary { l2, values }) in tensors {
            let (found, before) = (end.values(tensor), start.values(tensor));
            let largest = found.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
            let differences: Vec<f64> = sampled_values(&found).zip(values).map(|(a, b)| a - b).collect();
            let furthest = differences.iter().fold(0.0_f64, |furthest, value| furthest.max(value.abs()));
            assert!(furthest < 1e-4 * f64::from(largest), "{name}, {tensor}: {furthest} away");
            // Twenty small steps do not lead far: what is compared is also how far they led.
            let moved = norm(sampled_values(&before).zip(values).map(|(a, b)| a - b));
            let away = norm(differences.into_iter());
            assert!(away < 0.02 * moved + 1e-6, "{name}, {tensor}: {away} away after a way of {moved}");
            let length = norm(found.iter().map(|&value| f64::from(value)));
            assert!((length / l2 - 1.0).abs() < 1e-4, "{name}, {tensor}: {length} long, not {l2}");
        }
    }
}

#[test]
fn sgd_steps_as_pytorch_does() {
    assert_steps_match_pytorch(&["sgd", "sgd-plain"]);
}

#[test]
fn adamw_steps_as_pytorch_does_and_lamb_as_its_paper() {
    assert_steps_match_pytorch(&["adamw", "lamb"]);
}

#[test]
fn losses_are_weighted_and_smoothed_as_pytorch_does() {
    assert_steps_match_pytorch(&["smoothing", "weights", "weights-smoothing"]);
}

#[test]
fn averages_parts_and_clipping_are_pytorchs() {
    assert_steps_match_pytorch(&["ema", "accumulation", "clip"]);
}
