//! How long a step takes, and where its time goes.

use super::learner::{Learner, LearnerInput};
use super::mixing::MixingPlan;
use crate::recipe::Recipe;
use crate::replicas::HostCollective;
use anyhow::Result;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use model::architecture::{Architecture, Convolution, StemLayers};
use model::checkpoint::{Checkpoint, Metadata};
use model::network::{Initialisation, ResNet};
use model::preprocess::{ImageBatch, Preprocessing};
use model::random;
use serde::Serialize;
use std::time::{Duration, Instant};

/// In seconds, medians over repetitions.
#[derive(Debug, Serialize)]
pub struct StepTiming {
    pub step: f64,
    /// Of all convolutions, one after the other: forwards, to their inputs, and to their weights.
    pub convolutions_forward: f64,
    pub convolutions_to_inputs: f64,
    pub convolutions_to_weights: f64,
    /// Norms, activations, pools, classifier, loss, optimiser.
    pub rest: f64,
}

/// Fewest times that something is measured, and duration that all of them take together.
const MIN_REPETITIONS: usize = 5;
const DURATION_PER_LAYER: Duration = Duration::from_millis(500);

/// Of a step on `batch` random photos of `side` by `side` pixels, without loading them, for so long.
///
/// # Errors
/// If the network cannot be made.
pub fn measure_step(
    recipe: &Recipe,
    architecture: &Architecture,
    side: usize,
    batch: usize,
    device: &Device,
    duration: Duration,
) -> Result<StepTiming> {
    let network = ResNet::new(architecture, Initialisation::default(), &Device::flex());
    let start = Checkpoint::new(Metadata::new(*architecture), network.tensors(architecture))?;
    let mut learner = Learner::new(&start, recipe, None, 0, device);
    let Preprocessing { mean, std, .. } = Preprocessing::default();
    let images = ImageBatch::new(random::pixels(1, batch * side * side * 3), [batch, side, side], mean, std)?;
    let classes: Vec<usize> = (0..batch).map(|index| index % architecture.classes).collect();
    let collective = HostCollective::new(1).remove(0);
    let mut result = Ok(());
    let step = median(duration, || {
        learner.forward_backward(LearnerInput::Photos(&images, MixingPlan::default()), &classes);
        if let Err(lost) = learner.update(1e-4, 0.0, &collective) {
            result = Err(lost);
        }
        device.sync().ok();
    });
    result?;

    let [mut forward, mut input_gradients, mut weight_gradients] = [0.0; 3];
    for (index, (layer, side)) in convolutions_with_sides(architecture, side).into_iter().enumerate() {
        let shape = [batch, layer.in_channels, side, side];
        let input = || Tensor::<4>::random(shape, Distribution::Default, device);
        let weight = || Tensor::<4>::random(layer.weight_shape(), Distribution::Default, device);
        let options = || ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1, 1], layer.groups);
        let (plain_input, plain_weight) = (input(), weight());
        forward += median(DURATION_PER_LAYER, || {
            conv2d(plain_input.clone(), plain_weight.clone(), None, options());
            device.sync().ok();
        });
        let track = |tensor: Tensor<4>, requires_grad: bool| {
            if requires_grad { Tensor::from_inner(tensor).require_grad() } else { Tensor::from_inner(tensor) }
        };
        let backward = |for_input: bool| {
            // A gradient that is not all alike, as a sum's would be.
            let size = layer.output_size(side);
            let output_gradient = Tensor::from_inner(Tensor::random(
                [batch, layer.out_channels, size, size],
                Distribution::Default,
                device,
            ));
            median_of(DURATION_PER_LAYER, || {
                let input = track(plain_input.clone(), for_input);
                let weight = track(plain_weight.clone(), !for_input);
                let output = (conv2d(input, weight, None, options()) * output_gradient.clone()).sum();
                device.sync().ok();
                let start = Instant::now();
                output.backward();
                device.sync().ok();
                start.elapsed()
            })
        };
        // Nobody asks for a photo's gradient.
        if index > 0 {
            input_gradients += backward(true);
        }
        weight_gradients += backward(false);
    }
    let rest = step - forward - input_gradients - weight_gradients;
    Ok(StepTiming {
        step,
        convolutions_forward: forward,
        convolutions_to_inputs: input_gradients,
        convolutions_to_weights: weight_gradients,
        rest,
    })
}

/// Every convolution with the side of its input, for photos of `side` by `side` pixels.
fn convolutions_with_sides(architecture: &Architecture, side: usize) -> Vec<(Convolution, usize)> {
    let StemLayers { convolution, max_pool } = architecture.stem();
    let mut side = side;
    let mut layers = vec![(convolution.clone(), side)];
    side = convolution.output_size(side);
    side = max_pool.map_or(side, |pool| pool.output_size(side));
    for block in architecture.stages().into_iter().flatten() {
        layers.extend(block.downsample.map(|layer| (layer, side)));
        for layer in block.convolutions {
            let next = layer.output_size(side);
            layers.push((layer, side));
            side = next;
        }
    }
    layers
}

fn median(duration: Duration, mut run: impl FnMut()) -> f64 {
    median_of(duration, || {
        let start = Instant::now();
        run();
        start.elapsed()
    })
}

/// Of what `run` measures; the first time warms up.
fn median_of(duration: Duration, mut run: impl FnMut() -> Duration) -> f64 {
    run();
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < MIN_REPETITIONS || begun.elapsed() < duration {
        times.push(run());
    }
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_as_many_as_convolutions_and_shrink_to_a_thirty_second() {
        let architecture = Architecture::new("resnet50", 10).unwrap();
        let layers = convolutions_with_sides(&architecture, 224);
        assert_eq!(layers.len(), architecture.convolutions().len());
        assert_eq!(layers.last().map(|(_, side)| *side), Some(7));
    }
}
