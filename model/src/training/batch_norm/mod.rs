//! Batch norm with the statistics of the batch, fused with the shortcut of a block and the ReLU.
//!
//! All passes are bound by memory bandwidth, so that each reads its inputs once. A task processes some images of one
//! block of channels. How images are divided among tasks depends only on the shape of the value, and the sums of the
//! tasks are added in order, so results do not depend on the number of threads.

mod coefficients;
mod passes;
mod regions;

pub use coefficients::Coefficients;
pub use passes::{Following, Shortcut};

use super::value::{Execution, Value, ValueMut};
use crate::architecture::NORM_EPSILON;
use crate::engine::cpu::blocked_shape::BLOCK;
use passes::{Apply, GradientSums, InputGradient, Moments};
use regions::Tasks;

/// Weight of a batch in the update of the running statistics: PyTorch's default.
const MOMENTUM: f32 = 0.1;

/// A batch norm with the statistics of the last batch.
pub struct BatchNorm {
    channels: usize,
    coefficients: Coefficients,
    /// `1 / sqrt(variance + epsilon)` of each channel.
    inverse_std: Vec<f32>,
    /// Two sums per channel, `[tasks, 2, 16]`.
    partial_sums: Vec<f32>,
}

/// Running statistics, `[channels]` each.
pub struct RunningStatistics<'a> {
    pub mean: &'a mut [f32],
    pub variance: &'a mut [f32],
}

impl BatchNorm {
    pub fn new(channels: usize) -> Self {
        BatchNorm {
            channels,
            coefficients: Coefficients::zeros(channels),
            inverse_std: vec![0.0; channels],
            partial_sums: Vec::new(),
        }
    }

    pub fn coefficients(&self) -> &Coefficients {
        &self.coefficients
    }

    /// Computes the statistics of `input` and the coefficients, and updates the running statistics.
    pub fn compute_statistics(
        &mut self,
        input: Value,
        [gamma, beta]: [&[f32]; 2],
        running: RunningStatistics,
        execution: Execution,
    ) {
        let tasks = Tasks::new(input.shape);
        tasks.sum_up(execution, &mut self.partial_sums, |region, sums, at| {
            execution.set.run(Moments { region, input, sums, at });
        });
        let count = input.shape.pixels() as f64;
        for channel in 0..self.channels {
            // Combines mean and squared deviation of the parts (Chan et al. 1979).
            let (mut mean, mut squares, mut seen) = (0.0, 0.0, 0.0);
            for group in 0..tasks.groups {
                let part_count = tasks.pixels(group) as f64;
                let [sum, part_squares] = self.partial_sums(&tasks, channel, group);
                let (part_mean, total) = (sum / part_count, seen + part_count);
                let difference = part_mean - mean;
                mean += difference * part_count / total;
                squares += part_squares + difference * difference * seen * part_count / total;
                seen = total;
            }
            let variance = squares / count;
            let inverse_std = 1.0 / (variance + NORM_EPSILON).sqrt();
            self.coefficients.mean[channel] = mean as f32;
            self.inverse_std[channel] = inverse_std as f32;
            self.coefficients.scale[channel] = (f64::from(gamma[channel]) * inverse_std) as f32;
            self.coefficients.beta[channel] = beta[channel];
            let update = |running: &mut f32, batch: f64| {
                *running = *running * (1.0 - MOMENTUM) + batch as f32 * MOMENTUM;
            };
            update(&mut running.mean[channel], mean);
            // A single value has no variance, so there is nothing to correct.
            update(&mut running.variance[channel], squares / (count - 1.0).max(1.0));
        }
    }

    /// Writes `relu(norm(input) + shortcut)`.
    pub fn apply(&self, input: Value, shortcut: Shortcut, output: ValueMut, execution: Execution) {
        assert_eq!(output.values.len(), output.shape.len());
        Tasks::new(input.shape).for_each(execution, |_, region| {
            execution.set.run(Apply { coefficients: &self.coefficients, region, input, shortcut, output });
        });
    }

    /// Computes the gradients of gamma and beta, adds them to `gamma_gradient` and `beta_gradient`, and prepares
    /// [`input_gradient`](Self::input_gradient). `gradient` is the gradient after the `following` function.
    pub fn parameter_gradients(
        &mut self,
        input: Value,
        gradient: ValueMut,
        following: Following<Value>,
        [gamma_gradient, beta_gradient]: [&mut [f32]; 2],
        execution: Execution,
    ) {
        assert_eq!(gradient.values.len(), gradient.shape.len());
        let tasks = Tasks::new(input.shape);
        let coefficients = &self.coefficients;
        tasks.sum_up(execution, &mut self.partial_sums, |region, sums, at| {
            execution.set.run(GradientSums { coefficients, region, input, gradient, following, sums, at });
        });
        let count = input.shape.pixels() as f64;
        for channel in 0..self.channels {
            let [mut sum, mut product] = [0.0; 2];
            for group in 0..tasks.groups {
                let [part_sum, part_product] = self.partial_sums(&tasks, channel, group);
                sum += part_sum;
                product += part_product;
            }
            let (inverse_std, scale) =
                (f64::from(self.inverse_std[channel]), f64::from(self.coefficients.scale[channel]));
            gamma_gradient[channel] += (product * inverse_std) as f32;
            beta_gradient[channel] += sum as f32;
            self.coefficients.slope[channel] = (-scale * inverse_std * inverse_std * product / count) as f32;
            self.coefficients.offset[channel] = (-scale * sum / count) as f32;
        }
    }

    /// Writes the gradient of the input. `gradient` is the one that was passed to
    /// [`parameter_gradients`](Self::parameter_gradients), and `output` may be the same value.
    pub fn input_gradient(
        &self,
        input: Value,
        gradient: ValueMut,
        following: Following<Value>,
        output: ValueMut,
        execution: Execution,
    ) {
        assert_eq!(gradient.values.len(), gradient.shape.len());
        assert_eq!(output.values.len(), output.shape.len());
        let is_relu = matches!(following, Following::Relu);
        Tasks::new(input.shape).for_each(execution, |_, region| {
            execution.set.run(InputGradient {
                coefficients: &self.coefficients,
                region,
                input,
                gradient,
                is_relu,
                output,
            });
        });
    }

    /// Returns the two sums of a task.
    fn partial_sums(&self, tasks: &Tasks, channel: usize, group: usize) -> [f64; 2] {
        let (block, lane) = (channel / BLOCK, channel % BLOCK);
        let first = (block * tasks.groups + group) * 2 * BLOCK + lane;
        [first, first + BLOCK].map(|at| f64::from(self.partial_sums[at]))
    }
}
