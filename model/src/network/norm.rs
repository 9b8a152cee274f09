//! Batch norm with PyTorch's running statistics: PyTorch updates the running variance with the unbiased variance of the
//! batch, Burn's own module with the biased one.

use crate::architecture::NORM_EPSILON;
use burn::module::{Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::module::{batch_norm, batch_norm_train};
use burn::tensor::{Device, Tensor};

/// Weight of a batch in the update of the running statistics: PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// Batch norm of `[batch, channels, height, width]`; all tensors are `[channels]`.
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

    /// Normalises with the statistics of the batch, and updates the running ones, on an autodiff device; otherwise
    /// normalises with the running statistics.
    pub(super) fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let (gamma, beta) = (self.gamma.val(), self.beta.val());
        if !input.device().is_autodiff() {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            return batch_norm(input, gamma, beta, mean, variance, NORM_EPSILON);
        }
        let [batch, _, height, width] = input.dims();
        let count = (batch * height * width) as f64;
        let result = batch_norm_train(input, gamma, beta, NORM_EPSILON);
        // A single value has no variance, so there is nothing to correct.
        let unbiased = result.variance.detach() * (count / (count - 1.0).max(1.0));
        update_running(&self.running_mean, result.mean.detach());
        update_running(&self.running_var, unbiased);
        result.output
    }
}

fn update_running(running: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let moved = running.value_sync() * (1.0 - MOMENTUM) + batch * MOMENTUM;
    running.update(moved.detach());
    // Without this call, visitors of the module read the value before this update.
    running.value_sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: Tensor<1>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    /// PyTorch documents `running = 0.9 * running + 0.1 * batch`, here applied twice; the variance of the batch has the
    /// divisor `n - 1`.
    #[test]
    fn running_statistics_equal_pytorch() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(2, &device);
        let input = Tensor::<4>::from_data([[[[1.0, 3.0]], [[0.0, 0.0]]], [[[5.0, 7.0]], [[0.0, 8.0]]]], &device);
        for _ in 0..2 {
            norm.forward(input.clone());
        }
        let assert_near = |values: Vec<f32>, expected: [f32; 2]| {
            assert!(
                values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
                "{values:?}, expected {expected:?}"
            );
        };
        // The means are 4 and 2; the sums of squared deviations are 20 and 48, divided by three.
        assert_near(values(norm.running_mean.value_sync()), [0.19 * 4.0, 0.19 * 2.0]);
        assert_near(values(norm.running_var.value_sync()), [0.81 + 0.19 * 20.0 / 3.0, 0.81 + 0.19 * 16.0]);
    }

    #[test]
    fn statistics_stay_finite_for_a_single_value() {
        let device = Device::flex().autodiff();
        let norm = BatchNorm::new(1, &device);
        norm.forward(Tensor::<4>::from_data([[[[3.0]]]], &device));
        assert_eq!(values(norm.running_var.value_sync()), [0.9]);
    }
}
