//! Exponential moving average (EMA) of the weights, after `ExponentialMovingAverage` of torchvision's reference
//! scripts. The average includes the running statistics.

use super::network_tensors::{TensorFilter, flat_tensors, with_flat_tensors};
use super::trainable_network::AverageUpdate;
use burn::module::Module;
use burn::tensor::Tensor;
use model::network::ResNet;

/// When and how the average is updated.
#[derive(Clone, Copy, Debug)]
pub struct AverageSchedule {
    /// Weight of the previous average in an update.
    pub decay: f64,
    /// Number of optimiser steps between two updates.
    pub interval: usize,
    /// Number of steps at the start of training in which an update copies the weights instead of averaging them.
    pub warmup_steps: usize,
}

impl AverageSchedule {
    /// Returns the update after optimiser step number `step`, counted from 1: none unless `step` is a multiple of the
    /// interval.
    pub fn update_after(self, step: usize) -> Option<AverageUpdate> {
        let AverageSchedule { decay, interval, warmup_steps } = self;
        // As in `torch.optim.swa_utils.AveragedModel`, the first update copies the weights.
        let is_copied = step <= warmup_steps.max(interval);
        let update = if is_copied { AverageUpdate::Copy } else { AverageUpdate::Blend { decay } };
        step.is_multiple_of(interval).then_some(update)
    }
}

/// Average of all tensors of a Burn network, in the order of [`flat_tensors`].
pub struct FlatAverage(Vec<Tensor<1>>);

impl FlatAverage {
    /// Starts the average at the tensors of `network`.
    pub fn new(network: &ResNet) -> Self {
        FlatAverage(flat_tensors(network, TensorFilter::All))
    }

    pub fn update(&mut self, network: &ResNet, update: AverageUpdate) {
        let new = flat_tensors(network, TensorFilter::All);
        self.0 = match update {
            AverageUpdate::Copy => new,
            AverageUpdate::Blend { decay } => {
                let old = std::mem::take(&mut self.0);
                old.into_iter().zip(new).map(|(old, new)| old * decay + new * (1.0 - decay)).collect()
            }
        };
    }

    /// Returns the averaged network, without autodiff. `network` provides everything except the values of the tensors.
    pub fn network(&self, network: &ResNet) -> ResNet {
        with_flat_tensors(network.valid(), TensorFilter::All, self.0.clone())
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
            let schedule = AverageSchedule { decay: 0.5, interval, warmup_steps };
            let mut average = FlatAverage::new(&at(0));
            let after = |step| {
                if let Some(update) = schedule.update_after(step) {
                    average.update(&at(step), update);
                }
                average.0[0].clone().into_data().iter::<f32>().next().unwrap()
            };
            (1..=6).map(after).collect()
        };
        assert_eq!(run(1, 0), [1.0, 1.5, 2.25, 3.125, 4.0625, 5.03125]);
        assert_eq!(run(2, 0), [0.0, 2.0, 2.0, 3.0, 3.0, 4.5]);
        assert_eq!(run(2, 4), [0.0, 2.0, 2.0, 4.0, 4.0, 5.0]);
    }
}
