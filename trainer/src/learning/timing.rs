//! Benchmark of a training step: its total duration, and how much of it convolutions take.

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

/// Median times in seconds.
#[derive(Debug, Serialize)]
pub struct StepTiming {
    /// A whole training step.
    pub step: f64,
    /// Forward pass of all convolutions, measured one by one.
    pub convolutions_forward: f64,
    /// Gradients of the convolutions' inputs, measured one by one.
    #[serde(rename = "convolutions_to_inputs")]
    pub convolutions_input_gradients: f64,
    /// Gradients of the convolutions' weights, measured one by one.
    #[serde(rename = "convolutions_to_weights")]
    pub convolutions_weight_gradients: f64,
    /// Everything else: norms, activations, pools, classifier, loss, optimiser.
    pub rest: f64,
}

/// Minimum number of repetitions of a measurement.
const MIN_REPETITIONS: usize = 5;
/// Minimum total duration of the repetitions for one layer.
const DURATION_PER_LAYER: Duration = Duration::from_millis(500);

/// Measures steps on `batch` random images of `side` by `side` pixels, without data loading, for at least `duration`.
///
/// # Errors
/// Returns an error if the network cannot be created.
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
            // A random gradient of the output; that of a plain sum would be constant.
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
        // The gradient with respect to the images is not needed.
        if index > 0 {
            input_gradients += backward(true);
        }
        weight_gradients += backward(false);
    }
    let rest = step - forward - input_gradients - weight_gradients;
    Ok(StepTiming {
        step,
        convolutions_forward: forward,
        convolutions_input_gradients: input_gradients,
        convolutions_weight_gradients: weight_gradients,
        rest,
    })
}

/// Returns every convolution with the side of its input, for images of `side` by `side` pixels.
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

/// Returns the median wall-clock time of `run`, in seconds.
fn median(duration: Duration, mut run: impl FnMut()) -> f64 {
    median_of(duration, || {
        let start = Instant::now();
        run();
        start.elapsed()
    })
}

/// Returns the median of the times that `run` returns, in seconds, without the first, which is a warm-up.
fn median_of(duration: Duration, mut run: impl FnMut() -> Duration) -> f64 {
    run();
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < MIN_REPETITIONS || start.elapsed() < duration {
        times.push(run());
    }
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_all_convolutions_with_their_input_sides() {
        let architecture = Architecture::new("resnet50", 10).unwrap();
        let layers = convolutions_with_sides(&architecture, 224);
        assert_eq!(layers.len(), architecture.convolutions().len());
        assert_eq!(layers.last().map(|(_, side)| *side), Some(7));
    }
}
