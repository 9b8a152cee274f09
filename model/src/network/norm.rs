//! Batch norm as PyTorch trains it. Burn's own keeps the variance of a batch as it is, PyTorch's the unbiased one.

use crate::architecture::NORM_EPSILON;
use burn::module::{Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};

/// A batch's share of the running statistics: PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// Over `[batch, channels, height, width]`; every tensor is `[channels]`.
#[derive(Module, Debug)]
pub(super) struct BatchNorm {
    pub(super) gamma: Param<Tensor<1>>,
    pub(super) beta: Param<Tensor<1>>,
    pub(super) running_mean: RunningState<Tensor<1>>,
    pub(super) running_var: RunningState<Tensor<1>>,
}

impl BatchNorm {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        BatchNorm {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
        }
    }

    /// By the batch's own statistics on an autodiff device, where they move the running ones; by the running ones elsewhere.
    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        if !input.device().is_autodiff() {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            return batch_norm(input, gamma, beta, mean, variance, NORM_EPSILON);
        }
        let [batch, _, height, width] = input.dims();
        let count = (batch * height * width) as f64;
        let result = batch_norm_train(input, gamma, beta, NORM_EPSILON);
        // One value has no variance to correct.
        let unbiased = result.variance.detach() * (count / (count - 1.0).max(1.0));
        move_towards(&self.running_mean, result.mean.detach());
        move_towards(&self.running_var, unbiased);
        result.output
    }
}

fn move_towards(running: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let moved = running.value_sync() * (1.0 - MOMENTUM) + batch * MOMENTUM;
    running.update(moved.detach());
    // Whoever visits the module reads what was true before the last update otherwise.
    running.value_sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    /// The numbers are those of PyTorch's documentation: `running = 0.9 * running + 0.1 * batch`, twice, the variance with
    /// `n - 1`.
    #[test]
    fn running_statistics_are_those_of_pytorch() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(2, &device);
        let input = Tensor::<4>::from_data([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[5.0, 7.0]], [[0.0, 8.0]]]], &device);
        for _ in 0..2 {
            norm.forward(input.clone());
        }
        let near = |found: Vec<f32>, expected: [f32; 2]| {
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, not {expected:?}");
        };
        // Means 4 and 2; squared distances from them add up to 20 and 48, over three.
        near(values(norm.running_mean.value_sync()), [0.19 * 4.0, 0.19 * 2.0]);
        near(values(norm.running_var.value_sync()), [0.81 + 0.19 * 20.0 / 3.0, 0.81 + 0.19 * 16.0]);
    }

    #[test]
    fn a_batch_of_one_value_leaves_the_statistics_finite() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(1, &device);
        norm.forward(Tensor::<4>::from_data([[[[3.0]]]], &device));
        assert_eq!(values(norm.running_var.value_sync()), [0.9]);
    }
}
