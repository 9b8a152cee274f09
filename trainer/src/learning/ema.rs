//! Exponential moving average (EMA) of the weights, after `ExponentialMovingAverage` of torchvision's reference
//! scripts. The average includes the running statistics.

use super::network_tensors::{TensorFilter, flat_tensors, with_flat_tensors};
use burn::module::Module;
use burn::tensor::Tensor;
use model::network::ResNet;

/// Exponential moving average of all tensors of a network.
pub struct ExponentialMovingAverage {
    /// Averaged tensors, in the order of [`flat_tensors`].
    values: Vec<Tensor<1>>,
    /// Weight of the previous average in an update.
    decay: f64,
    /// Number of optimiser steps between two updates.
    interval: usize,
    /// Number of steps at the start of training in which an update copies the weights instead of averaging them.
    warmup_steps: usize,
}

impl ExponentialMovingAverage {
    /// Starts the average at the weights of `network`.
    pub fn new(network: &ResNet, decay: f64, interval: usize, warmup_steps: usize) -> Self {
        ExponentialMovingAverage { values: flat_tensors(network, TensorFilter::All), decay, interval, warmup_steps }
    }

    /// Updates the average with the weights of `network` after optimiser step number `step`, counted from 1. Does
    /// nothing unless `step` is a multiple of the interval.
    pub fn update(&mut self, network: &ResNet, step: usize) {
        if !step.is_multiple_of(self.interval) {
            return;
        }
        let new = flat_tensors(network, TensorFilter::All);
        // As in `torch.optim.swa_utils.AveragedModel`, the first update copies the weights.
        if step <= self.warmup_steps.max(self.interval) {
            self.values = new;
            return;
        }
        let old = std::mem::take(&mut self.values);
        let blend = |(old, new): (Tensor<1>, Tensor<1>)| old * self.decay + new * (1.0 - self.decay);
        self.values = old.into_iter().zip(new).map(blend).collect();
    }

    /// Sets the average to the tensors of `network`, which were saved by the run that is resumed.
    pub fn restore(&mut self, network: &ResNet) {
        self.values = flat_tensors(network, TensorFilter::All);
    }

    /// Returns the averaged network, without autodiff. `network` provides everything except the values of the tensors.
    pub fn network(&self, network: &ResNet) -> ResNet {
        with_flat_tensors(network.valid(), TensorFilter::All, self.values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::small_checkpoint;
    use super::*;
    use burn::tensor::Device;

    /// Sets all values of the network to the number of the step, so that the average can be computed by hand.
    #[test]
    fn copies_during_warmup_and_then_averages_at_the_interval() {
        let network = ResNet::from_checkpoint(&small_checkpoint(), &Device::flex());
        let at = |step: usize| {
            let of = |value: Tensor<1>| value.zeros_like() + step as f64;
            with_flat_tensors(
                network.clone(),
                TensorFilter::All,
                flat_tensors(&network, TensorFilter::All).into_iter().map(of).collect(),
            )
        };
        let run = |interval: usize, warmup_steps: usize| -> Vec<f32> {
            let mut average = ExponentialMovingAverage::new(&at(0), 0.5, interval, warmup_steps);
            let after = |step| {
                average.update(&at(step), step);
                average.values[0].clone().into_data().iter::<f32>().next().unwrap()
            };
            (1..=6).map(after).collect()
        };
        assert_eq!(run(1, 0), [1.0, 1.5, 2.25, 3.125, 4.0625, 5.03125]);
        assert_eq!(run(2, 0), [0.0, 2.0, 2.0, 3.0, 3.0, 4.5]);
        assert_eq!(run(2, 4), [0.0, 2.0, 2.0, 4.0, 4.0, 5.0]);
    }
}
