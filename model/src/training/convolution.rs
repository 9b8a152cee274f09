//! A convolution of the network with its two gradients.

use super::algorithm_choice::{Problem, choose};
use super::value::{Execution, Value, ValueMut};
use super::weight_gradient::WeightGradient;
use crate::architecture::Convolution;
use crate::engine::cpu::algorithm::Algorithm;
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
    reads_image: bool,
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
}

enum PackedWeights {
    Direct(DirectWeights),
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
}

enum Division {
    Direct(DirectSchedule),
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
#[derive(Clone, Copy, Default)]
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
    /// Creates a convolution without weights. The stem, which reads the image, has no input gradient.
    pub fn new(layer: Convolution, reads_image: bool) -> Self {
        let phases = if reads_image { 0 } else { layer.stride };
        let phases = (0..phases).flat_map(|y| (0..phases).map(move |x| [y, x]));
        let input_gradient =
            phases.map(|first| Pass { filter: Filter::input_gradient(&layer, first), first, weights: None }).collect();
        let forward = Pass { filter: Filter::forward(&layer), first: [0, 0], weights: None };
        TrainedConvolution { layer, reads_image, forward, input_gradient }
    }

    /// Replaces the weights by `weight`, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub fn replace_weights(&mut self, weight: &[f32], execution: Execution) {
        for Pass { filter, weights, .. } in std::iter::once(&mut self.forward).chain(&mut self.input_gradient) {
            match weights {
                Some(PackedWeights::Direct(weights)) => weights.replace(weight, execution.threads),
                Some(PackedWeights::Winograd(weights)) => {
                    weights.replace(filter, weight, execution.set, execution.threads)
                }
                None => unreachable!("the algorithms are chosen before the weights are packed"),
            }
        }
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
        let (set, reads_image, stride) = (execution.set, self.reads_image, self.layer.stride);
        let forward = self.forward.prepare(choose, shapes.input, shapes.output, 1, execution);
        let gradient = ConvolutionInput::Value(shapes.output_gradient);
        let passes = self.input_gradient.iter_mut();
        let input_gradient =
            passes.map(|pass| pass.prepare(choose, gradient, shapes.input_gradient, stride, execution)).collect();
        let weight_gradient = match shapes.input {
            ConvolutionInput::Image(image) => {
                debug_assert!(reads_image);
                WeightGradient::for_image(&self.layer, image, shapes.output_gradient, set)
            }
            ConvolutionInput::Value(input) => WeightGradient::new(&self.layer, input, shapes.output_gradient, set),
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
        execution: Execution,
    ) -> PassSchedule {
        let (set, threads) = (execution.set, execution.threads.count());
        let grid = PixelGrid::every(output, step, self.first);
        let reads_image = matches!(input, ConvolutionInput::Image(_));
        let algorithm =
            if reads_image || step > 1 { Algorithm::Direct } else { choose(&Problem { filter: &self.filter, output }) };
        if self.weights.as_ref().map(PackedWeights::algorithm) != Some(algorithm) {
            self.weights = Some(PackedWeights::zeroed(&self.filter, algorithm, reads_image, set));
        }
        let division = match (self.weights.as_ref().expect("set above"), input) {
            (PackedWeights::Direct(weights), ConvolutionInput::Image(image)) => {
                Division::Direct(DirectSchedule::for_image(weights, image, output, set, threads))
            }
            (PackedWeights::Direct(weights), ConvolutionInput::Value(input)) => {
                // The residual, if there is one, has the shape of the output.
                Division::Direct(DirectSchedule::new(weights, input, output, &grid, None, set, threads))
            }
            (PackedWeights::Winograd(weights), _) => {
                Division::Winograd(WinogradSchedule::new(weights, output, threads))
            }
        };
        PassSchedule { grid, division }
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
        // Norms follow, so there is no bias.
        let bias = vec![0.0; self.filter.out_channels.next_multiple_of(set.panel())];
        let residual = residual.map(|value| (value.values, value.shape));
        let output = ConvolutionOutput { bias: &bias, residual, relu: false, values, shape, grid: schedule.grid };
        match (&self.weights, &schedule.division) {
            (Some(PackedWeights::Direct(weights)), Division::Direct(schedule)) => {
                DirectConvolution { weights, schedule, input, output }.run(set, threads, &mut []);
            }
            (Some(PackedWeights::Winograd(weights)), Division::Winograd(schedule)) => {
                let input_shape = input_shape.expect("the stem is a direct convolution");
                let convolution = WinogradConvolution { weights, schedule, input, input_shape, output };
                convolution.run(set, threads, scratch.shared, scratch.per_thread);
            }
            _ => unreachable!("the schedule belongs to the chosen algorithm"),
        }
    }

    /// Returns the temporary memory that a run needs.
    fn scratch_size(&self, schedule: &PassSchedule) -> ScratchSize {
        match (&self.weights, &schedule.division) {
            (Some(PackedWeights::Winograd(weights)), Division::Winograd(schedule)) => {
                ScratchSize { shared: schedule.shared_len(weights), per_thread: schedule.scratch_len(weights) }
            }
            _ => ScratchSize::default(),
        }
    }
}

impl TrainedConvolution {
    /// Returns the temporary memory that all passes need.
    pub fn scratch_size(&self, schedule: &ConvolutionSchedule) -> ScratchSize {
        let passes = std::iter::once(&self.forward).chain(&self.input_gradient);
        let schedules = std::iter::once(&schedule.forward).chain(&schedule.input_gradient);
        let weight_gradient = ScratchSize { shared: schedule.weight_gradient.scratch_len(), per_thread: 0 };
        let sizes = passes.zip(schedules).map(|(pass, schedule)| pass.scratch_size(schedule));
        sizes.fold(weight_gradient, ScratchSize::max)
    }
}

impl PackedWeights {
    fn zeroed(filter: &Filter, algorithm: Algorithm, reads_image: bool, set: InstructionSet) -> Self {
        match algorithm {
            Algorithm::Direct => PackedWeights::Direct(DirectWeights::zeroed(filter.clone(), reads_image, set)),
            Algorithm::Winograd(variant) => PackedWeights::Winograd(WinogradWeights::zeroed(filter, variant, set)),
            Algorithm::DirectBf16 => unreachable!("training computes in f32"),
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            PackedWeights::Direct(weights) => weights.algorithm(),
            PackedWeights::Winograd(weights) => weights.algorithm(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm_choice::candidates;
    use super::super::weight_gradient::WinogradWeightGradient;
    use super::*;
    use crate::engine::cpu::WinogradVariant;
    use crate::engine::cpu::blocked_shape::BLOCK;
    use crate::engine::cpu::thread_pool::ThreadPool;
    use crate::random::Uniform;

    /// A convolution of random values, with its results in f64, all `[batch, channels, height, width]`.
    struct Reference {
        layer: Convolution,
        input: Vec<f32>,
        input_shape: BlockedShape,
        weight: Vec<f32>,
        output_gradient: Vec<f32>,
        output_shape: BlockedShape,
        output: Vec<f64>,
        input_gradient: Vec<f64>,
        weight_gradient: Vec<f64>,
    }

    fn layer(in_channels: usize, out_channels: usize, kernel: usize, stride: usize, groups: usize) -> Convolution {
        let [name, norm] = [String::new(), String::new()];
        Convolution { name, norm, in_channels, out_channels, kernel, stride, padding: kernel / 2, groups }
    }

    impl Reference {
        fn new(layer: Convolution, [batch, height, width]: [usize; 3]) -> Self {
            let Convolution { in_channels, out_channels, kernel, stride, padding, groups, .. } = layer;
            let [out_height, out_width] = [height, width].map(|side| layer.output_size(side));
            let input: Vec<f32> = Uniform::new(1).take(batch * in_channels * height * width).collect();
            let weight: Vec<f32> = Uniform::new(2).take(layer.weight_shape().iter().product()).collect();
            let count = batch * out_channels * out_height * out_width;
            let output_gradient: Vec<f32> = Uniform::new(3).take(count).collect();
            let mut output = vec![0.0; count];
            let mut input_gradient = vec![0.0; input.len()];
            let mut weight_gradient = vec![0.0; weight.len()];
            let (group_in, group_out) = (in_channels / groups, out_channels / groups);
            for (at, output) in output.iter_mut().enumerate() {
                let (rest, x) = (at / out_width, at % out_width);
                let (rest, y) = (rest / out_height, rest % out_height);
                let (image, out) = (rest / out_channels, rest % out_channels);
                for channel in 0..group_in {
                    for element in 0..kernel * kernel {
                        let input_y = (y * stride + element / kernel).wrapping_sub(padding);
                        let input_x = (x * stride + element % kernel).wrapping_sub(padding);
                        if input_y >= height || input_x >= width {
                            continue;
                        }
                        let channel_of_input = out / group_out * group_in + channel;
                        let input_at = ((image * in_channels + channel_of_input) * height + input_y) * width + input_x;
                        let weight_at = (out * group_in + channel) * kernel * kernel + element;
                        let gradient = f64::from(output_gradient[at]);
                        *output += f64::from(input[input_at]) * f64::from(weight[weight_at]);
                        input_gradient[input_at] += gradient * f64::from(weight[weight_at]);
                        weight_gradient[weight_at] += gradient * f64::from(input[input_at]);
                    }
                }
            }
            let input_shape = BlockedShape { channels: in_channels, batch, height, width, border: padding };
            let output_shape =
                BlockedShape { channels: out_channels, batch, height: out_height, width: out_width, border: 0 };
            Reference {
                layer,
                input,
                input_shape,
                weight,
                output_gradient,
                output_shape,
                output,
                input_gradient,
                weight_gradient,
            }
        }
    }

    /// Converts `[batch, channels, height, width]` to blocks of channels.
    fn blocked(values: &[f32], shape: &BlockedShape) -> Vec<f32> {
        let mut blocked = vec![0.0; shape.len()];
        for (at, &value) in values.iter().enumerate() {
            let (rest, x) = (at / shape.width, at % shape.width);
            let (rest, y) = (rest / shape.height, rest % shape.height);
            let (image, channel) = (rest / shape.channels, rest % shape.channels);
            let block = channel / BLOCK * shape.block_stride() + channel % BLOCK;
            blocked[block + shape.offset(image, y + shape.border, x + shape.border)] = value;
        }
        blocked
    }

    fn assert_near(actual: &[f32], expected: &[f64], what: &str) {
        assert_eq!(actual.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        for (at, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
            let error = (f64::from(actual) - expected).abs() / largest;
            assert!(error < 2e-5, "{what}, value {at}: {actual}, not {expected}");
        }
    }

    /// Compares a convolution and its gradients with the reference. `choice` selects one of the algorithms of each.
    fn check(reference: &Reference, set: InstructionSet, choice: usize) {
        let Reference { layer, input_shape, output_shape, .. } = reference;
        let threads = ThreadPool::new(Some(3)).unwrap();
        let execution = Execution { set, threads: &threads };
        let mut convolution = TrainedConvolution::new(layer.clone(), false);
        let gradient_shape = BlockedShape { border: convolution.gradient_border(), ..*output_shape };
        let input_gradient_shape = BlockedShape { border: 0, ..*input_shape };
        let shapes = ConvolutionShapes {
            input: ConvolutionInput::Value(input_shape),
            output: output_shape,
            output_gradient: &gradient_shape,
            input_gradient: &input_gradient_shape,
        };
        let input = blocked(&reference.input, input_shape);
        let gradient = blocked(&reference.output_gradient, &gradient_shape);
        let mut output = vec![f32::NAN; output_shape.len()];
        let mut input_gradient = vec![f32::NAN; input_gradient_shape.len()];
        // Gradients are added to those of earlier batches.
        let mut weight_gradient = vec![1.0; reference.weight.len()];
        let what = format!("{layer:?}, {input_shape:?}, {set}, algorithm {choice}");
        let choose = |problem: &Problem| {
            let candidates: Vec<_> = candidates(problem.filter).collect();
            candidates[choice % candidates.len()]
        };
        threads.install(|| {
            let schedule = convolution.prepare_with(&choose, shapes, execution);
            convolution.replace_weights(&reference.weight, execution);
            let size = convolution.scratch_size(&schedule);
            let (mut shared, per_thread) = (vec![f32::NAN; size.shared], ThreadScratch::new(&threads, size.per_thread));
            let mut scratch = Scratch { shared: &mut shared, per_thread: &per_thread };
            let target = ValueMut::new(&mut output, output_shape);
            convolution.forward(&schedule, &input, Some(input_shape), target, &mut scratch, execution);
            let gradient = Value::new(&gradient, &gradient_shape);
            let target = ValueMut::new(&mut input_gradient, &input_gradient_shape);
            convolution.input_gradient(&schedule, gradient, None, target, &mut scratch, execution);
            schedule.weight_gradient.run(&input, gradient, &mut weight_gradient, scratch.shared, execution);

            if [layer.kernel, layer.stride, layer.groups] == [3, 1, 1] {
                for m in 2..5 {
                    let variant = WinogradVariant { m, stride: 1 };
                    let winograd = WinogradWeightGradient::new(layer, variant, input_shape, &gradient_shape, set);
                    let (mut sums, mut scratch) =
                        (vec![0.0; reference.weight.len()], vec![f32::NAN; winograd.scratch_len()]);
                    winograd.run(&input, gradient, &mut sums, &mut scratch, execution);
                    assert_near(&sums, &reference.weight_gradient, &format!("{what}, weight gradient with m = {m}"));
                }
            }
        });
        let unpack = |values: &[f32], shape: &BlockedShape| {
            let mut unpacked = Vec::new();
            shape.unpack_nchw(values, &mut unpacked);
            unpacked
        };
        assert_near(&unpack(&output, output_shape), &reference.output, &format!("{what}, output"));
        let input_gradient = unpack(&input_gradient, &input_gradient_shape);
        assert_near(&input_gradient, &reference.input_gradient, &format!("{what}, input gradient"));
        weight_gradient.iter_mut().for_each(|gradient| *gradient -= 1.0);
        assert_near(&weight_gradient, &reference.weight_gradient, &format!("{what}, weight gradient"));
    }

    /// Sides that are and are not multiples of tiles, smaller than a tile, and odd with a stride of 2.
    #[test]
    fn convolutions_and_gradients_match_the_definition_on_every_kernel() {
        for (layer, shape) in [
            (layer(32, 32, 1, 1, 1), [2, 5, 9]),
            (layer(16, 48, 1, 2, 1), [2, 7, 8]),
            (layer(16, 32, 3, 1, 1), [3, 9, 12]),
            (layer(48, 16, 3, 1, 1), [1, 1, 2]),
            (layer(64, 64, 3, 1, 1), [4, 8, 8]),
            (layer(32, 64, 3, 2, 1), [2, 9, 6]),
            (layer(128, 128, 3, 1, 32), [2, 5, 7]),
            (layer(256, 256, 3, 2, 32), [1, 6, 5]),
            (layer(64, 64, 3, 1, 2), [1, 3, 3]),
        ] {
            let algorithms = candidates(&Filter::forward(&layer)).count();
            let reference = Reference::new(layer, shape);
            for set in InstructionSet::available() {
                (0..algorithms).for_each(|choice| check(&reference, set, choice));
            }
        }
    }

    /// On large images and batches, the faster algorithm for many pixels is chosen, and for few pixels that with fewer
    /// weights.
    #[test]
    fn winograd_is_chosen_for_many_pixels() {
        let layer = layer(256, 256, 3, 1, 1);
        let filter = &Filter::forward(&layer);
        let choice = |batch, side| {
            choose(&Problem {
                filter,
                output: &BlockedShape { channels: 256, batch, height: side, width: side, border: 0 },
            })
        };
        assert_eq!(choice(1, 2), Algorithm::Direct);
        assert_eq!(choice(32, 16), Algorithm::Winograd(WinogradVariant { m: 4, stride: 1 }));
    }
}
