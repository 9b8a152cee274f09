//! How long a step takes, and where its time goes.

use super::learner::{Inputs, Learner};
use super::mixing::Plan;
use crate::recipe::Recipe;
use crate::replicas::HostThreads;
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
pub struct Timing {
    pub step: f64,
    /// Of all convolutions, one after the other: forwards, to their inputs, and to their weights.
    pub convolutions_forward: f64,
    pub convolutions_to_inputs: f64,
    pub convolutions_to_weights: f64,
    /// Norms, activations, pools, classifier, loss, optimiser.
    pub rest: f64,
}

/// Fewest times that something is measured, and longest that all of them take together.
const REPETITIONS: usize = 5;
const PER_LAYER: Duration = Duration::from_millis(500);

/// Of a step on `batch` random photos of `side` by `side` pixels, without loading them, for so long.
///
/// # Errors
/// If the network cannot be made.
pub fn time(
    recipe: &Recipe,
    architecture: &Architecture,
    side: usize,
    batch: usize,
    device: &Device,
    longest: Duration,
) -> Result<Timing> {
    let network = ResNet::new(architecture, Initialisation::default(), &Device::flex());
    let start = Checkpoint::new(Metadata::new(*architecture), network.tensors(architecture))?;
    let mut learner = Learner::new(&start, recipe, None, 0, device);
    let Preprocessing { mean, std, .. } = Preprocessing::default();
    let images = ImageBatch::new(random::pixels(1, batch * side * side * 3), [batch, side, side], mean, std)?;
    let classes: Vec<usize> = (0..batch).map(|index| index % architecture.classes).collect();
    let alone = HostThreads::new(1).remove(0);
    let mut result = Ok(());
    let step = median(longest, || {
        learner.study(Inputs::Photos(&images, Plan::default()), &classes);
        if let Err(lost) = learner.update(1e-4, 0.0, &alone) {
            result = Err(lost);
        }
        device.sync().ok();
    });
    result?;

    let [mut forward, mut to_inputs, mut to_weights] = [0.0; 3];
    for (index, (layer, side)) in layers(architecture, side).into_iter().enumerate() {
        let shape = [batch, layer.in_channels, side, side];
        let input = || Tensor::<4>::random(shape, Distribution::Default, device);
        let weight = || Tensor::<4>::random(layer.weight_shape(), Distribution::Default, device);
        let options = || ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1, 1], layer.groups);
        let (plain_input, plain_weight) = (input(), weight());
        forward += median(PER_LAYER, || {
            conv2d(plain_input.clone(), plain_weight.clone(), None, options());
            device.sync().ok();
        });
        let tracked = |tensor: Tensor<4>, is: bool| {
            if is { Tensor::from_inner(tensor).require_grad() } else { Tensor::from_inner(tensor) }
        };
        let backward = |for_input: bool| {
            // A gradient that is not all alike, as a sum's would be.
            let size = layer.output_size(side);
            let onto = Tensor::from_inner(Tensor::random(
                [batch, layer.out_channels, size, size],
                Distribution::Default,
                device,
            ));
            median_of(PER_LAYER, || {
                let input = tracked(plain_input.clone(), for_input);
                let weight = tracked(plain_weight.clone(), !for_input);
                let output = (conv2d(input, weight, None, options()) * onto.clone()).sum();
                device.sync().ok();
                let start = Instant::now();
                output.backward();
                device.sync().ok();
                start.elapsed()
            })
        };
        // Nobody asks for a photo's gradient.
        if index > 0 {
            to_inputs += backward(true);
        }
        to_weights += backward(false);
    }
    let rest = step - forward - to_inputs - to_weights;
    Ok(Timing {
        step,
        convolutions_forward: forward,
        convolutions_to_inputs: to_inputs,
        convolutions_to_weights: to_weights,
        rest,
    })
}

/// Every convolution with the side of its input, for photos of `side` by `side` pixels.
fn layers(architecture: &Architecture, side: usize) -> Vec<(Convolution, usize)> {
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

fn median(longest: Duration, mut run: impl FnMut()) -> f64 {
    median_of(longest, || {
        let start = Instant::now();
        run();
        start.elapsed()
    })
}

/// Of what `run` measures; the first time warms up.
fn median_of(longest: Duration, mut run: impl FnMut() -> Duration) -> f64 {
    run();
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < REPETITIONS || begun.elapsed() < longest {
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
        let layers = layers(&architecture, 224);
        assert_eq!(layers.len(), architecture.convolutions().len());
        assert_eq!(layers.last().map(|(_, side)| *side), Some(7));
    }
}
