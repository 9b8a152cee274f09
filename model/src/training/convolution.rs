//! A convolution of the network with its two gradients.

use super::value::{Execution, Value, ValueMut};
use super::weight_gradient::WeightGradient;
use crate::architecture::Convolution;
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::convolution_output::{ConvolutionOutput, PixelGrid};
use crate::engine::cpu::direct_conv::{DirectConvolution, DirectSchedule, DirectWeights, Filter};
use crate::engine::cpu::padded_image::PaddedImage;
use crate::engine::cpu::simd::InstructionSet;

/// A convolution with its packed weights.
pub struct TrainedConvolution {
    pub layer: Convolution,
    forward: DirectWeights,
    input_gradient: Vec<GradientPhase>,
}

/// The part of the input gradient at every `stride`-th pixel from `first` on.
struct GradientPhase {
    first: [usize; 2],
    weights: DirectWeights,
}

/// The division of a convolution and its gradients into tasks, for values of one shape.
pub struct ConvolutionSchedule {
    forward: DirectSchedule,
    input_gradient: Vec<(PixelGrid, DirectSchedule)>,
    pub weight_gradient: WeightGradient,
}

/// Input of a convolution.
#[derive(Clone, Copy)]
pub enum ConvolutionInput<'a> {
    Image(&'a PaddedImage),
    Value(&'a BlockedShape),
}

impl TrainedConvolution {
    /// Creates a convolution whose weights are zero. The stem, which reads the image, has no input gradient.
    pub fn new(layer: Convolution, reads_image: bool, set: InstructionSet) -> Self {
        let phases = if reads_image { 0 } else { layer.stride };
        let phases = (0..phases).flat_map(|y| (0..phases).map(move |x| [y, x]));
        let input_gradient = phases.map(|first| GradientPhase {
            first,
            weights: DirectWeights::zeroed(Filter::input_gradient(&layer, first), false, set),
        });
        TrainedConvolution {
            forward: DirectWeights::zeroed(Filter::forward(&layer), reads_image, set),
            input_gradient: input_gradient.collect(),
            layer,
        }
    }

    /// Replaces the weights by `weight`, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub fn replace_weights(&mut self, weight: &[f32], execution: Execution) {
        self.forward.replace(weight, execution.threads);
        for phase in &mut self.input_gradient {
            phase.weights.replace(weight, execution.threads);
        }
    }

    /// Returns the width of the zero border that the gradient of the output needs.
    pub fn gradient_border(&self) -> usize {
        self.input_gradient.iter().map(|phase| phase.weights.filter().border()).max().unwrap_or(0)
    }

    /// Divides the convolution into tasks. `input_gradient` is the shape of the input's gradient.
    pub fn schedule(
        &self,
        input: ConvolutionInput,
        output: &BlockedShape,
        output_gradient: &BlockedShape,
        input_gradient: &BlockedShape,
        execution: Execution,
    ) -> ConvolutionSchedule {
        let (set, threads) = (execution.set, execution.threads.count());
        let grid = PixelGrid::all(output);
        let forward = match input {
            ConvolutionInput::Image(image) => DirectSchedule::for_image(&self.forward, image, output, set, threads),
            ConvolutionInput::Value(input) => {
                DirectSchedule::new(&self.forward, input, output, &grid, None, set, threads)
            }
        };
        let phase = |phase: &GradientPhase| {
            let grid = PixelGrid::every(input_gradient, self.layer.stride, phase.first);
            // The residual, if there is one, has this shape too.
            let residual = Some(input_gradient);
            let schedule =
                DirectSchedule::new(&phase.weights, output_gradient, input_gradient, &grid, residual, set, threads);
            (grid, schedule)
        };
        let weight_gradient = match input {
            ConvolutionInput::Image(image) => WeightGradient::for_image(&self.layer, image, output_gradient, set),
            ConvolutionInput::Value(input) => WeightGradient::new(&self.layer, input, output_gradient, set),
        };
        ConvolutionSchedule {
            forward,
            input_gradient: self.input_gradient.iter().map(phase).collect(),
            weight_gradient,
        }
    }

    /// Computes the output.
    pub fn forward(&self, schedule: &ConvolutionSchedule, input: &[f32], output: ValueMut, execution: Execution) {
        let bias = zeros(self.layer.out_channels, execution.set);
        let ValueMut { values, shape } = output;
        let output =
            ConvolutionOutput { bias: &bias, residual: None, relu: false, values, shape, grid: PixelGrid::all(shape) };
        DirectConvolution { weights: &self.forward, schedule: &schedule.forward, input, output }.run(
            execution.set,
            execution.threads,
            &mut [],
        );
    }

    /// Computes the gradient of the input from that of the output, and adds `residual` to it, which has the shape of
    /// `input_gradient`.
    pub fn input_gradient(
        &self,
        schedule: &ConvolutionSchedule,
        gradient: Value,
        residual: Option<Value>,
        input_gradient: ValueMut,
        execution: Execution,
    ) {
        let bias = zeros(self.layer.in_channels, execution.set);
        let ValueMut { values, shape } = input_gradient;
        let residual = residual.map(|value| (value.values, value.shape));
        for (phase, (grid, schedule)) in self.input_gradient.iter().zip(&schedule.input_gradient) {
            let output = ConvolutionOutput { bias: &bias, residual, relu: false, values, shape, grid: *grid };
            DirectConvolution { weights: &phase.weights, schedule, input: gradient.values, output }.run(
                execution.set,
                execution.threads,
                &mut [],
            );
        }
    }
}

/// Returns a bias of zeros.
fn zeros(channels: usize, set: InstructionSet) -> Vec<f32> {
    vec![0.0; channels.next_multiple_of(set.panel())]
}
