//! Benchmark of a training step: its total duration, and how much of it each kind of operation takes.

use super::learner::{Learner, StepOutcome, training_backend};
use super::mixing::MixingPlan;
use super::trainable_network::LearnerInput;
use crate::recipe::Recipe;
use crate::replicas::{HostCollective, ReplicaDevice, TrainingBackend};
use anyhow::{Result, bail};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use model::architecture::{Architecture, Convolution, StemLayers};
use model::preprocess::{ImageBatch, Preprocessing};
use model::random;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Times of a step and of its operations, in seconds.
#[derive(Debug, Serialize)]
pub struct StepTiming {
    /// Median of the steps.
    pub step: f64,
    /// Mean of the steps, to which the operations add up.
    pub mean: f64,
    pub operations: Vec<OperationTiming>,
}

/// Time of a kind of operation.
#[derive(Debug, Serialize)]
pub struct OperationTiming {
    pub name: String,
    pub seconds: f64,
}

/// What is measured.
pub struct StepBenchmark<'a> {
    pub recipe: &'a Recipe,
    pub architecture: Architecture,
    /// Width and height of the images.
    pub side: usize,
    pub batch: usize,
    pub device: &'a ReplicaDevice,
    /// Minimum total duration of the steps.
    pub duration: Duration,
}

/// Name of the row of everything that is not measured by itself.
const REST: &str = "everything else";
/// Minimum number of repetitions of a measurement.
const MIN_REPETITIONS: usize = 5;
/// Minimum total duration of the repetitions for one layer.
const DURATION_PER_LAYER: Duration = Duration::from_millis(500);

impl StepBenchmark<'_> {
    /// Measures steps on random images, without data loading. `progress` is called before each part of the benchmark.
    ///
    /// Our own kernels are timed during the steps, and the times are means; with Burn, each convolution is measured by
    /// itself.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn run(&self, progress: impl Fn(&str)) -> Result<StepTiming> {
        let StepBenchmark { recipe, architecture, side, batch, device, duration } = *self;
        let mut learner = Learner::new(&random::checkpoint(architecture), recipe, None, 0, device)?;
        let Preprocessing { mean, std, .. } = Preprocessing::default();
        let images = ImageBatch::new(random::pixels(1, batch * side * side * 3), [batch, side, side], mean, std)?;
        let classes: Vec<_> = (0..batch).map(|index| Some(index % architecture.classes)).collect();
        let collective = HostCollective::new(1).remove(0);
        let backend = training_backend(recipe, device);
        progress("steps");
        let take_step = |learner: &mut Learner| -> Result<()> {
            learner.forward_backward(LearnerInput::Photos(&images, MixingPlan::default()), &classes, None);
            if let (StepOutcome::Diverged(reason), _) = learner.update(1e-4, 0.0, &collective)? {
                bail!("training diverged: {reason}");
            }
            if let TrainingBackend::Burn(device) = &backend {
                device.sync()?;
            }
            Ok(())
        };
        // The first step also allocates memory.
        take_step(&mut learner)?;
        let before: BTreeMap<String, Duration> = learner.profile().into_iter().collect();
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < MIN_REPETITIONS || start.elapsed() < duration {
            let start = Instant::now();
            take_step(&mut learner)?;
            times.push(start.elapsed());
        }
        let count = times.len() as f64;
        let mean = times.iter().sum::<Duration>().as_secs_f64() / count;
        times.sort();
        let step = times[times.len() / 2].as_secs_f64();
        let mut operations: Vec<OperationTiming> = match &backend {
            TrainingBackend::Cpu { .. } => {
                let times = learner.profile().into_iter().map(|(name, time)| {
                    let earlier = before.get(&name).copied().unwrap_or_default();
                    OperationTiming { name, seconds: (time - earlier).as_secs_f64() / count }
                });
                times.collect()
            }
            TrainingBackend::Burn(device) => self.measure_convolutions(device, progress),
        };
        let measured: f64 = operations.iter().map(|operation| operation.seconds).sum();
        operations.push(OperationTiming { name: REST.to_owned(), seconds: (mean - measured).max(0.0) });
        Ok(StepTiming { step, mean, operations })
    }

    /// Measures forward pass and gradients of each convolution on a Burn device.
    fn measure_convolutions(&self, device: &Device, progress: impl Fn(&str)) -> Vec<OperationTiming> {
        let [mut forward, mut input_gradients, mut weight_gradients] = [0.0; 3];
        for (index, (layer, side)) in convolutions_with_sides(&self.architecture, self.side).into_iter().enumerate() {
            progress(&layer.name);
            let shape = [self.batch, layer.in_channels, side, side];
            let plain_input = Tensor::<4>::random(shape, Distribution::Default, device);
            let plain_weight = Tensor::<4>::random(layer.weight_shape(), Distribution::Default, device);
            let options = || ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1, 1], layer.groups);
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
                    [self.batch, layer.out_channels, size, size],
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
        let times = [
            ("convolutions", forward),
            ("gradients of the convolutions' inputs", input_gradients),
            ("gradients of the convolutions' weights", weight_gradients),
        ];
        times.map(|(name, seconds)| OperationTiming { name: name.to_owned(), seconds }).into()
    }
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
