//! A convolution of the network with its two gradients.

#[cfg(test)]
mod tests;

use super::algorithm_choice::{Problem, choose, choose_for_stem};
use super::value::{Execution, Value, ValueMut};
use super::weight_gradient::WeightGradient;
use crate::architecture::Convolution;
use crate::engine::Precision;
use crate::engine::cpu::algorithm::Algorithm;
use crate::engine::cpu::amx::{AmxConvolution, AmxSchedule, AmxWeights, PANEL};
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::convolution_output::{ConvolutionOutput, PixelGrid};
use crate::engine::cpu::direct_conv::{DirectConvolution, DirectSchedule, DirectWeights};
use crate::engine::cpu::filter::Filter;
use crate::engine::cpu::padded_image::PaddedImage;
use crate::engine::cpu::simd::InstructionSet;
use crate::engine::cpu::thread_pool::ThreadScratch;
use crate::engine::cpu::winograd::{WinogradConvolution, WinogradSchedule, WinogradWeights};

/// A convolution with its packed weights.
pub struct TrainedConvolution {
    pub layer: Convolution,
    precision: Precision,
    forward: Pass,
    input_gradient: Vec<Pass>,
}

/// The convolution that computes the output, or the input gradient at every `stride`-th pixel.
struct Pass {
    filter: Filter,
    /// Position of the first pixel.
    first: [usize; 2],
    /// Packed weights, once the algorithm is chosen.
    weights: Option<PackedWeights>,
    /// Whether `weights` hold the weights of the layer; they are zero when the algorithm has just been chosen.
    has_weights: bool,
}

enum PackedWeights {
    Direct(DirectWeights),
    Amx(AmxWeights),
    Winograd(WinogradWeights),
}

/// The division of a convolution and its gradients into tasks, for values of one shape.
pub struct ConvolutionSchedule {
    forward: PassSchedule,
    input_gradient: Vec<PassSchedule>,
    pub weight_gradient: WeightGradient,
}

struct PassSchedule {
    grid: PixelGrid,
    division: Division,
    /// Zeros, because norms follow instead of biases.
    bias: Vec<f32>,
    scratch_size: ScratchSize,
}

enum Division {
    Direct(DirectSchedule),
    Amx(AmxSchedule),
    Winograd(WinogradSchedule),
}

/// Input of a convolution.
#[derive(Clone, Copy)]
pub enum ConvolutionInput<'a> {
    Image(&'a PaddedImage),
    Value(&'a BlockedShape),
}

/// Shapes of the values of a convolution.
#[derive(Clone, Copy)]
pub struct ConvolutionShapes<'a> {
    pub input: ConvolutionInput<'a>,
    pub output: &'a BlockedShape,
    pub output_gradient: &'a BlockedShape,
    pub input_gradient: &'a BlockedShape,
}

/// Temporary memory of convolutions.
pub struct Scratch<'a> {
    /// Shared by all threads.
    pub shared: &'a mut [f32],
    pub per_thread: &'a ThreadScratch,
}

/// Number of values of temporary memory.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct ScratchSize {
    pub shared: usize,
    pub per_thread: usize,
}

impl ScratchSize {
    /// Returns the smallest size that is sufficient for both.
    pub fn max(self, other: ScratchSize) -> ScratchSize {
        ScratchSize { shared: self.shared.max(other.shared), per_thread: self.per_thread.max(other.per_thread) }
    }
}

impl TrainedConvolution {
    /// Creates a convolution without weights. The stem, which reads the image, has no input gradient. With the precision
    /// bf16, passes that are faster in bf16 round their operands.
    pub fn new(layer: Convolution, reads_image: bool, precision: Precision) -> Self {
        let phases = if reads_image { 0 } else { layer.stride };
        let phases = (0..phases).flat_map(|y| (0..phases).map(move |x| [y, x]));
        let input_gradient = phases
            .map(|first| Pass {
                filter: Filter::input_gradient(&layer, first),
                first,
                weights: None,
                has_weights: false,
            })
            .collect();
        let forward = Pass { filter: Filter::forward(&layer), first: [0, 0], weights: None, has_weights: false };
        TrainedConvolution { layer, precision, forward, input_gradient }
    }

    /// Replaces the weights by `weight`, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub fn replace_weights(&mut self, weight: &[f32], execution: Execution) {
        for Pass { filter, weights, has_weights, .. } in
            std::iter::once(&mut self.forward).chain(&mut self.input_gradient)
        {
            match weights {
                Some(PackedWeights::Direct(weights)) => weights.replace(weight, execution.set, execution.threads),
                Some(PackedWeights::Amx(weights)) => weights.replace(weight, execution.set, execution.threads),
                Some(PackedWeights::Winograd(weights)) => {
                    weights.replace(filter, weight, execution.set, execution.threads)
                }
                None => unreachable!("the algorithms are chosen before the weights are packed"),
            }
            *has_weights = true;
        }
    }

    /// Returns whether the weights were replaced since the algorithms were chosen.
    pub fn has_weights(&self) -> bool {
        std::iter::once(&self.forward).chain(&self.input_gradient).all(|pass| pass.has_weights)
    }

    /// Returns the width of the zero border that the gradient of the output needs.
    pub fn gradient_border(&self) -> usize {
        self.input_gradient.iter().map(|pass| pass.filter.border()).max().unwrap_or(0)
    }

    /// Chooses the algorithms for values of these shapes, and divides them into tasks. The weights must be replaced
    /// before they are used.
    pub fn prepare(&mut self, shapes: ConvolutionShapes, execution: Execution) -> ConvolutionSchedule {
        self.prepare_with(&choose, shapes, execution)
    }

    fn prepare_with(
        &mut self,
        choose: &dyn Fn(&Problem) -> Algorithm,
        shapes: ConvolutionShapes,
        execution: Execution,
    ) -> ConvolutionSchedule {
        let (set, stride, precision) = (execution.set, self.layer.stride, self.precision);
        let forward = self.forward.prepare(choose, shapes.input, shapes.output, 1, precision, execution);
        let gradient = ConvolutionInput::Value(shapes.output_gradient);
        let passes = self.input_gradient.iter_mut();
        let input_gradient = passes
            .map(|pass| pass.prepare(choose, gradient, shapes.input_gradient, stride, precision, execution))
            .collect();
        let weight_gradient = match shapes.input {
            ConvolutionInput::Image(image) => {
                WeightGradient::for_image(&self.layer, image, shapes.output_gradient, set)
            }
            ConvolutionInput::Value(input) => {
                WeightGradient::new(&self.layer, input, shapes.output_gradient, precision, set)
            }
        };
        ConvolutionSchedule { forward, input_gradient, weight_gradient }
    }

    /// Computes the output.
    pub fn forward(
        &self,
        schedule: &ConvolutionSchedule,
        input: &[f32],
        input_shape: Option<&BlockedShape>,
        output: ValueMut,
        scratch: &mut Scratch,
        execution: Execution,
    ) {
        self.forward.run(&schedule.forward, input, input_shape, None, output, scratch, execution);
    }

    /// Computes the gradient of the input from that of the output, and adds `residual` to it, which has the shape of
    /// `input_gradient`.
    pub fn input_gradient(
        &self,
        schedule: &ConvolutionSchedule,
        gradient: Value,
        residual: Option<Value>,
        input_gradient: ValueMut,
        scratch: &mut Scratch,
        execution: Execution,
    ) {
        for (pass, schedule) in self.input_gradient.iter().zip(&schedule.input_gradient) {
            let Value { values, shape } = gradient;
            pass.run(schedule, values, Some(shape), residual, input_gradient, scratch, execution);
        }
    }
}

impl Pass {
    /// Chooses the algorithm for the pixels of `output` at multiples of `step`, and divides it into tasks.
    fn prepare(
        &mut self,
        choose: &dyn Fn(&Problem) -> Algorithm,
        input: ConvolutionInput,
        output: &BlockedShape,
        step: usize,
        precision: Precision,
        execution: Execution,
    ) -> PassSchedule {
        let (set, threads) = (execution.set, execution.threads.count());
        let grid = PixelGrid::every(output, step, self.first);
        let reads_image = matches!(input, ConvolutionInput::Image(_));
        let algorithm = match input {
            ConvolutionInput::Image(_) => choose_for_stem(&self.filter, precision, set),
            ConvolutionInput::Value(input) => {
                choose(&Problem { filter: &self.filter, input, output, grid: &grid, precision, set })
            }
        };
        if self.weights.as_ref().map(PackedWeights::algorithm) != Some(algorithm) {
            // Free the old weights first.
            self.weights = None;
            self.weights = Some(PackedWeights::zeroed(&self.filter, algorithm, reads_image, set));
            self.has_weights = false;
        }
        let mut scratch_size = ScratchSize::default();
        let division = match (self.weights.as_ref().expect("set above"), input) {
            (PackedWeights::Direct(weights), ConvolutionInput::Image(image)) => {
                Division::Direct(DirectSchedule::for_image(weights, image, output, set, threads))
            }
            (PackedWeights::Direct(weights), ConvolutionInput::Value(input)) => {
                scratch_size.shared = DirectSchedule::shared_len(weights, input);
                // The residual, if there is one, has the shape of the output.
                Division::Direct(DirectSchedule::new(weights, input, output, &grid, None, set, threads))
            }
            (PackedWeights::Amx(weights), ConvolutionInput::Value(input)) => {
                let schedule = AmxSchedule::new(weights, input, &grid, threads);
                scratch_size.shared = schedule.shared_len();
                Division::Amx(schedule)
            }
            (PackedWeights::Amx(weights), ConvolutionInput::Image(image)) => {
                let schedule = AmxSchedule::for_image(weights, image, output, threads);
                scratch_size.shared = schedule.shared_len();
                Division::Amx(schedule)
            }
            (PackedWeights::Winograd(weights), _) => {
                let schedule = WinogradSchedule::new(weights, output, threads);
                scratch_size =
                    ScratchSize { shared: schedule.shared_len(weights), per_thread: schedule.scratch_len(weights) };
                Division::Winograd(schedule)
            }
        };
        let bias = vec![0.0; self.filter.out_channels.next_multiple_of(set.panel().max(PANEL))];
        PassSchedule { grid, division, bias, scratch_size }
    }

    #[allow(clippy::too_many_arguments)] // the operands of a convolution
    fn run(
        &self,
        schedule: &PassSchedule,
        input: &[f32],
        input_shape: Option<&BlockedShape>,
        residual: Option<Value>,
        output: ValueMut,
        scratch: &mut Scratch,
        execution: Execution,
    ) {
        let Execution { set, threads } = execution;
        let ValueMut { values, shape } = output;
        let residual = residual.map(|value| (value.values, value.shape));
        assert!(residual.is_none_or(|(_, residual)| residual == shape), "the schedule is for one shape");
        let output =
            ConvolutionOutput { bias: &schedule.bias, residual, relu: false, values, shape, grid: schedule.grid };
        match (&self.weights, &schedule.division) {
            (Some(PackedWeights::Direct(weights)), Division::Direct(schedule)) => {
                DirectConvolution { weights, schedule, input, output }.run(set, threads, scratch.shared);
            }
            (Some(PackedWeights::Amx(weights)), Division::Amx(schedule)) => {
                AmxConvolution { weights, schedule, input, output }.run(set, threads, scratch.shared);
            }
            (Some(PackedWeights::Winograd(weights)), Division::Winograd(schedule)) => {
                let input_shape = input_shape.expect("the stem is a direct convolution");
                let convolution = WinogradConvolution { weights, schedule, input, input_shape, output };
                convolution.run(set, threads, scratch.shared, scratch.per_thread);
            }
            _ => unreachable!("the schedule belongs to the chosen algorithm"),
        }
    }
}

impl ConvolutionSchedule {
    /// Returns the temporary memory that all passes need.
    pub fn scratch_size(&self) -> ScratchSize {
        let passes = std::iter::once(&self.forward).chain(&self.input_gradient);
        let weight_gradient = ScratchSize { shared: self.weight_gradient.scratch_len(), per_thread: 0 };
        passes.map(|pass| pass.scratch_size).fold(weight_gradient, ScratchSize::max)
    }
}

impl PackedWeights {
    fn zeroed(filter: &Filter, algorithm: Algorithm, reads_image: bool, set: InstructionSet) -> Self {
        match algorithm {
            Algorithm::Direct => PackedWeights::Direct(DirectWeights::zeroed(filter.clone(), reads_image, set)),
            Algorithm::Winograd(variant) => PackedWeights::Winograd(WinogradWeights::zeroed(filter, variant, set)),
            Algorithm::AmxBf16 => {
                let unit = set.matrix_unit().expect("the algorithm is chosen only with a matrix unit");
                PackedWeights::Amx(AmxWeights::zeroed(filter.clone(), reads_image, unit))
            }
            Algorithm::DirectBf16 => PackedWeights::Direct(DirectWeights::zeroed_pairs(filter.clone(), set)),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            PackedWeights::Direct(weights) => weights.algorithm(),
            PackedWeights::Amx(weights) => weights.algorithm(),
            PackedWeights::Winograd(weights) => weights.algorithm(),
        }
    }
}
