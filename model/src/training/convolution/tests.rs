//! Tests of the convolutions and their gradients against their definition.

use super::super::algorithm_choice::tiles_support_weights;
use super::super::weight_gradient::{AmxWeightGradient, DirectWeightGradient, WinogradWeightGradient};
use super::*;
use crate::engine::cpu::WinogradVariant;
use crate::engine::cpu::blocked_shape::BLOCK;
use crate::engine::cpu::thread_pool::ThreadPool;
use crate::random::Uniform;
use half::bf16;

/// A convolution of random values, with its results in f64, all `[batch, channels, height, width]`. The values are
/// representable in bf16, so that rounding does not change them.
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
        let random = |seed, count: usize| -> Vec<f32> {
            Uniform::new(seed).take(count).map(|value| bf16::from_f32(value).to_f32()).collect()
        };
        let input = random(1, batch * in_channels * height * width);
        let weight = random(2, layer.weight_shape().iter().product());
        let count = batch * out_channels * out_height * out_width;
        let output_gradient = random(3, count);
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

/// Returns all algorithms of the weight gradient, with their names.
fn weight_gradients(
    reference: &Reference,
    gradient: &BlockedShape,
    set: InstructionSet,
) -> Vec<(String, WeightGradient)> {
    let Reference { layer, input_shape, .. } = reference;
    let direct = DirectWeightGradient::new(layer, input_shape, gradient, set);
    let mut algorithms = vec![("direct".to_owned(), WeightGradient::Direct(direct))];
    if set.has_bf16_pairs() {
        let direct = DirectWeightGradient::in_bf16(layer, input_shape, gradient, set);
        algorithms.push(("direct in bf16".to_owned(), WeightGradient::Direct(direct)));
    }
    if let Some(unit) = set.matrix_unit().filter(|_| tiles_support_weights(layer)) {
        let amx = AmxWeightGradient::new(layer, input_shape, gradient, unit);
        algorithms.push(("AMX".to_owned(), WeightGradient::Amx(amx)));
    }
    if [layer.kernel, layer.stride, layer.groups] == [3, 1, 1] {
        algorithms.extend((2..5).map(|m| {
            let variant = WinogradVariant { m, stride: 1 };
            let winograd = WinogradWeightGradient::new(layer, variant, input_shape, gradient, set);
            (format!("Winograd with m = {m}"), WeightGradient::Winograd(winograd))
        }));
    }
    algorithms
}

/// Compares a convolution and its gradients with the reference. `choice` selects one of the algorithms of each.
fn check(reference: &Reference, set: InstructionSet, choice: usize) {
    let Reference { layer, input_shape, output_shape, .. } = reference;
    let precision = if set.has_bf16_pairs() { Precision::Bf16 } else { Precision::F32 };
    let threads = ThreadPool::new(Some(3)).unwrap();
    let execution = Execution { set, threads: &threads };
    let mut convolution = TrainedConvolution::new(layer.clone(), false, precision);
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
        let candidates: Vec<_> = problem.candidates().collect();
        candidates[choice % candidates.len()]
    };
    threads.install(|| {
        let schedule = convolution.prepare_with(&choose, shapes, execution);
        convolution.replace_weights(&reference.weight, execution);
        let size = schedule.scratch_size();
        let (mut shared, per_thread) = (vec![f32::NAN; size.shared], ThreadScratch::new(&threads, size.per_thread));
        let mut scratch = Scratch { shared: &mut shared, per_thread: &per_thread };
        let target = ValueMut::new(&mut output, output_shape);
        convolution.forward(&schedule, &input, Some(input_shape), target, &mut scratch, execution);
        let gradient = Value::new(&gradient, &gradient_shape);
        let target = ValueMut::new(&mut input_gradient, &input_gradient_shape);
        convolution.input_gradient(&schedule, gradient, None, target, &mut scratch, execution);
        schedule.weight_gradient.run(&input, gradient, &mut weight_gradient, scratch.shared, execution);

        for (name, algorithm) in weight_gradients(reference, &gradient_shape, set) {
            let (mut sums, mut scratch) = (vec![0.0; reference.weight.len()], vec![f32::NAN; algorithm.scratch_len()]);
            algorithm.run(&input, gradient, &mut sums, &mut scratch, execution);
            assert_near(&sums, &reference.weight_gradient, &format!("{what}, weight gradient: {name}"));
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
        // Some phases of the input gradient have no pixels.
        (layer(256, 512, 3, 2, 1), [1, 1, 1]),
        (layer(16, 48, 1, 2, 1), [2, 1, 3]),
    ] {
        let algorithms = if layer.kernel == 3 && layer.groups == 1 { 6 } else { 3 };
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
        let output = &BlockedShape { channels: 256, batch, height: side, width: side, border: 0 };
        let input = &BlockedShape { border: 1, ..*output };
        choose(&Problem {
            filter,
            input,
            output,
            grid: &PixelGrid::all(output),
            precision: Precision::F32,
            set: InstructionSet::best(),
        })
    };
    assert_eq!(choice(1, 2), Algorithm::Direct);
    assert_eq!(choice(32, 16), Algorithm::Winograd(WinogradVariant { m: 4, stride: 1 }));
}
