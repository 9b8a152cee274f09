//! Batch norm with the statistics of the batch, fused with the shortcut of a block and the ReLU.
//!
//! All passes are bound by memory bandwidth, so that each reads its inputs once. A task processes some images of one
//! block of channels. How images are divided among tasks depends only on the shape of the value, and the sums of the
//! tasks are added in order, so results do not depend on the number of threads.

use super::value::{Execution, Value, ValueMut};
use crate::architecture::NORM_EPSILON;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd};
use std::ops::Range;

/// Weight of a batch in the update of the running statistics: PyTorch's default.
const MOMENTUM: f32 = 0.1;
/// Number of values that a task processes at least, unless the batch has fewer.
const VALUES_PER_TASK: usize = 16 << 10;

/// Statistics of a batch and the coefficients that derive from them, each `[channels]`, padded to whole blocks.
pub struct BatchNorm {
    channels: usize,
    mean: Vec<f32>,
    /// `1 / sqrt(variance + epsilon)`.
    inverse_std: Vec<f32>,
    /// `gamma * inverse_std`: the normalised value is `scale * (value - mean) + beta`.
    scale: Vec<f32>,
    beta: Vec<f32>,
    /// Coefficients of the gradient: it is `scale * gradient + slope * (value - mean) + offset`.
    slope: Vec<f32>,
    offset: Vec<f32>,
    /// Two sums per channel, `[tasks, 2, 16]`.
    partial_sums: Vec<f32>,
}

/// What is added to the normalised value before the ReLU.
#[derive(Clone, Copy)]
pub enum Shortcut<'a> {
    None,
    Identity(Value<'a>),
    /// The output of the convolution of a projection, and its norm.
    Projection(Value<'a>, &'a BatchNorm),
}

/// The function between the normalised value and the value whose gradient is known.
#[derive(Clone, Copy)]
pub enum Following<V> {
    /// No function, or one whose gradient is already applied.
    Nothing,
    Relu,
    /// A shortcut is added, and a ReLU gives this value. The gradient is replaced by that of the sum.
    ShortcutAndRelu(V),
}

impl<V> Following<V> {
    pub fn map<W>(self, map: impl FnOnce(V) -> W) -> Following<W> {
        match self {
            Following::Nothing => Following::Nothing,
            Following::Relu => Following::Relu,
            Following::ShortcutAndRelu(value) => Following::ShortcutAndRelu(map(value)),
        }
    }
}

/// Running statistics, `[channels]` each.
pub struct RunningStatistics<'a> {
    pub mean: &'a mut [f32],
    pub variance: &'a mut [f32],
}

impl BatchNorm {
    pub fn new(channels: usize) -> Self {
        let zeros = || vec![0.0; channels.next_multiple_of(BLOCK)];
        BatchNorm {
            channels,
            mean: zeros(),
            inverse_std: zeros(),
            scale: zeros(),
            beta: zeros(),
            slope: zeros(),
            offset: zeros(),
            partial_sums: Vec::new(),
        }
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
            self.mean[channel] = mean as f32;
            self.inverse_std[channel] = inverse_std as f32;
            self.scale[channel] = (f64::from(gamma[channel]) * inverse_std) as f32;
            self.beta[channel] = beta[channel];
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
            execution.set.run(Apply { norm: self, region, input, shortcut, output });
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
        let mut partial_sums = std::mem::take(&mut self.partial_sums);
        let norm = &*self;
        tasks.sum_up(execution, &mut partial_sums, |region, sums, at| {
            execution.set.run(GradientSums { norm, region, input, gradient, following, sums, at });
        });
        self.partial_sums = partial_sums;
        let count = input.shape.pixels() as f64;
        for channel in 0..self.channels {
            let [mut sum, mut product] = [0.0; 2];
            for group in 0..tasks.groups {
                let [part_sum, part_product] = self.partial_sums(&tasks, channel, group);
                sum += part_sum;
                product += part_product;
            }
            let (inverse_std, scale) = (f64::from(self.inverse_std[channel]), f64::from(self.scale[channel]));
            gamma_gradient[channel] += (product * inverse_std) as f32;
            beta_gradient[channel] += sum as f32;
            self.slope[channel] = (-scale * inverse_std * inverse_std * product / count) as f32;
            self.offset[channel] = (-scale * sum / count) as f32;
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
            execution.set.run(InputGradient { norm: self, region, input, gradient, is_relu, output });
        });
    }

    /// Returns the two sums of a task.
    fn partial_sums(&self, tasks: &Tasks, channel: usize, group: usize) -> [f64; 2] {
        let (block, lane) = (channel / BLOCK, channel % BLOCK);
        let first = (block * tasks.groups + group) * 2 * BLOCK + lane;
        [first, first + BLOCK].map(|at| f64::from(self.partial_sums[at]))
    }
}

/// The division of a value into tasks.
struct Tasks {
    /// Number of blocks of channels.
    blocks: usize,
    batch: usize,
    images_per_group: usize,
    /// Number of groups of images.
    groups: usize,
    pixels_per_image: usize,
}

/// Part of a value that a task processes: some images of one block of channels.
struct Region {
    block: usize,
    images: Range<usize>,
}

impl Tasks {
    fn new(shape: &BlockedShape) -> Self {
        let pixels_per_image = shape.height * shape.width;
        let images_per_group = VALUES_PER_TASK.div_ceil(pixels_per_image * BLOCK).min(shape.batch);
        Tasks {
            blocks: shape.channels.div_ceil(BLOCK),
            batch: shape.batch,
            images_per_group,
            groups: shape.batch.div_ceil(images_per_group),
            pixels_per_image,
        }
    }

    fn images(&self, group: usize) -> Range<usize> {
        let first = group * self.images_per_group;
        first..(first + self.images_per_group).min(self.batch)
    }

    /// Returns the number of pixels in a group of images.
    fn pixels(&self, group: usize) -> usize {
        self.images(group).len() * self.pixels_per_image
    }

    /// Calls `task` with the index and the region of each task.
    fn for_each(&self, execution: Execution, task: impl Fn(usize, Region) + Sync) {
        execution.threads.for_each(self.blocks * self.groups, |index| {
            task(index, Region { block: index / self.groups, images: self.images(index % self.groups) });
        });
    }

    /// Calls `task` with each region, and the offset in `sums` where it writes its two sums per channel.
    fn sum_up(&self, execution: Execution, sums: &mut Vec<f32>, task: impl Fn(Region, SharedMutSlice, usize) + Sync) {
        sums.resize(self.blocks * self.groups * 2 * BLOCK, 0.0);
        let sums = SharedMutSlice::new(sums);
        self.for_each(execution, |index, region| task(region, sums, index * 2 * BLOCK));
    }
}

impl Region {
    /// Calls `row` with the offset of every row in a value of each of the shapes.
    #[inline(always)]
    fn for_each_row<const N: usize>(&self, shapes: [&BlockedShape; N], mut row: impl FnMut([usize; N])) {
        for image in self.images.clone() {
            for y in 0..shapes[0].height {
                row(shapes.map(|shape| {
                    self.block * shape.block_stride() + shape.offset(image, y + shape.border, shape.border)
                }));
            }
        }
    }
}

/// Sums, and sums of squared deviations from the mean of the region.
struct Moments<'a> {
    region: Region,
    input: Value<'a>,
    sums: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Moments { region, input: Value { values, shape }, sums, at } = self;
        let count = (region.images.len() * shape.height * shape.width) as f32;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let read = |at: usize| {
                // SAFETY: rows lie inside the value.
                unsafe { simd.read(values, at + lane) }
            };
            let sum = sum_rows(simd, &region, [shape], |[at]| read(at));
            let mean = simd.multiply(sum, simd.splat(1.0 / count));
            let squares = sum_rows(simd, &region, [shape], |[at]| {
                let deviation = simd.subtract(read(at), mean);
                simd.multiply(deviation, deviation)
            });
            // SAFETY: each task has room for two sums per channel at `at`.
            unsafe {
                simd.write(sums, at + lane, sum);
                simd.write(sums, at + BLOCK + lane, squares);
            }
        }
    }
}

/// Adds up a term for each pixel. Four sums, of every fourth pixel of a row, are independent of each other, so that
/// additions do not wait for the preceding ones.
#[inline(always)]
fn sum_rows<S: Simd, const N: usize>(
    simd: S,
    region: &Region,
    shapes: [&BlockedShape; N],
    term: impl Fn([usize; N]) -> S::Vector,
) -> S::Vector {
    let width = shapes[0].width;
    let mut sums = [simd.splat(0.0); 4];
    region.for_each_row(shapes, |row| {
        let pixel = |x: usize| row.map(|at| at + x * BLOCK);
        let whole = width / 4 * 4;
        for x in (0..whole).step_by(4) {
            for (distance, sum) in sums.iter_mut().enumerate() {
                *sum = simd.add(*sum, term(pixel(x + distance)));
            }
        }
        for x in whole..width {
            sums[0] = simd.add(sums[0], term(pixel(x)));
        }
    });
    let [a, b, c, d] = sums;
    simd.add(simd.add(a, b), simd.add(c, d))
}

/// The coefficients of some channels of a norm, in vectors.
pub struct Coefficients<V> {
    mean: V,
    scale: V,
    beta: V,
}

impl BatchNorm {
    /// Reads the coefficients of the channels from `channel` on.
    #[inline(always)]
    pub fn coefficients<S: Simd>(&self, simd: S, channel: usize) -> Coefficients<S::Vector> {
        let read = |values: &[f32]| {
            assert!(channel + S::LANES <= values.len());
            // SAFETY: the assertion checks that there are enough values.
            unsafe { simd.read(values, channel) }
        };
        Coefficients { mean: read(&self.mean), scale: read(&self.scale), beta: read(&self.beta) }
    }
}

impl<V: Copy> Coefficients<V> {
    #[inline(always)]
    pub fn normalise<S: Simd<Vector = V>>(&self, simd: S, value: V) -> V {
        simd.multiply_add(self.scale, simd.subtract(value, self.mean), self.beta)
    }
}

/// Computes `relu(norm(input) + shortcut)`.
struct Apply<'a> {
    norm: &'a BatchNorm,
    region: Region,
    input: Value<'a>,
    shortcut: Shortcut<'a>,
    output: ValueMut<'a>,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Apply { norm, region, input, shortcut, output } = self;
        let width = input.shape.width;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let coefficients = norm.coefficients(simd, region.block * BLOCK + lane);
            // SAFETY: all rows lie inside their values, and each task writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, output.values, lane)) };
            let normalised = |at: usize| coefficients.normalise(simd, read(input.values, at));
            // With the operands in this order, a NaN is preserved, and detected in the loss.
            let relu = |value: S::Vector| simd.max(simd.splat(0.0), value);
            match shortcut {
                Shortcut::None => region.for_each_row([input.shape, output.shape], |[from, to]| {
                    for at in (0..width * BLOCK).step_by(BLOCK) {
                        write(to + at, relu(normalised(from + at)));
                    }
                }),
                Shortcut::Identity(other) => {
                    region.for_each_row([input.shape, output.shape, other.shape], |[from, to, other_from]| {
                        for at in (0..width * BLOCK).step_by(BLOCK) {
                            let sum = simd.add(normalised(from + at), read(other.values, other_from + at));
                            write(to + at, relu(sum));
                        }
                    });
                }
                Shortcut::Projection(other, other_norm) => {
                    let other_coefficients = other_norm.coefficients(simd, region.block * BLOCK + lane);
                    region.for_each_row([input.shape, output.shape, other.shape], |[from, to, other_from]| {
                        for at in (0..width * BLOCK).step_by(BLOCK) {
                            let projected = other_coefficients.normalise(simd, read(other.values, other_from + at));
                            write(to + at, relu(simd.add(normalised(from + at), projected)));
                        }
                    });
                }
            }
        }
    }
}

/// Sums of the gradient, and of its product with the deviation from the mean.
struct GradientSums<'a> {
    norm: &'a BatchNorm,
    region: Region,
    input: Value<'a>,
    gradient: ValueMut<'a>,
    following: Following<Value<'a>>,
    sums: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GradientSums { norm, region, input, gradient, following, sums, at } = self;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let coefficients = norm.coefficients(simd, region.block * BLOCK + lane);
            // SAFETY: all rows lie inside their values, and each task reads and writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, gradient.values, lane)) };
            // SAFETY: as above.
            let read_gradient = unsafe { shared_reader(simd, gradient.values, lane) };
            let mut totals = [simd.splat(0.0); 2];
            let mut add = |gradient: S::Vector, value: S::Vector| {
                totals[0] = simd.add(totals[0], gradient);
                totals[1] = simd.multiply_add(gradient, simd.subtract(value, coefficients.mean), totals[1]);
            };
            let pixels = (0..input.shape.width * BLOCK).step_by(BLOCK);
            match following {
                Following::Nothing => region.for_each_row([input.shape, gradient.shape], |[from, at]| {
                    pixels.clone().for_each(|x| add(read_gradient(at + x), read(input.values, from + x)));
                }),
                Following::Relu => region.for_each_row([input.shape, gradient.shape], |[from, at]| {
                    for x in pixels.clone() {
                        let value = read(input.values, from + x);
                        let normalised = coefficients.normalise(simd, value);
                        add(simd.zero_unless_positive(normalised, read_gradient(at + x)), value);
                    }
                }),
                Following::ShortcutAndRelu(result) => {
                    region.for_each_row([input.shape, gradient.shape, result.shape], |[from, at, result_at]| {
                        for x in pixels.clone() {
                            let result = read(result.values, result_at + x);
                            let gradient = simd.zero_unless_positive(result, read_gradient(at + x));
                            write(at + x, gradient);
                            add(gradient, read(input.values, from + x));
                        }
                    });
                }
            }
            // SAFETY: each task has room for two sums per channel at `at`.
            unsafe {
                simd.write(sums, at + lane, totals[0]);
                simd.write(sums, at + BLOCK + lane, totals[1]);
            }
        }
    }
}

/// Gradient of the input.
struct InputGradient<'a> {
    norm: &'a BatchNorm,
    region: Region,
    input: Value<'a>,
    gradient: ValueMut<'a>,
    is_relu: bool,
    output: ValueMut<'a>,
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let InputGradient { norm, region, input, gradient, is_relu, output } = self;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let channel = region.block * BLOCK + lane;
            let coefficients = norm.coefficients(simd, channel);
            // SAFETY: all rows lie inside their values, and each task reads and writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, output.values, lane)) };
            // SAFETY: as above.
            let read_gradient = unsafe { shared_reader(simd, gradient.values, lane) };
            let [slope, offset] = [&norm.slope, &norm.offset].map(|values| {
                assert!(channel + S::LANES <= values.len());
                // SAFETY: the assertion checks that there are enough values.
                unsafe { simd.read(values, channel) }
            });
            region.for_each_row([input.shape, gradient.shape, output.shape], |[from, at, to]| {
                for x in (0..input.shape.width * BLOCK).step_by(BLOCK) {
                    let value = read(input.values, from + x);
                    let deviation = simd.subtract(value, coefficients.mean);
                    let mut gradient = read_gradient(at + x);
                    if is_relu {
                        gradient = simd.zero_unless_positive(coefficients.normalise(simd, value), gradient);
                    }
                    let linear = simd.multiply_add(slope, deviation, offset);
                    write(to + x, simd.multiply_add(coefficients.scale, gradient, linear));
                }
            });
        }
    }
}

/// Returns a function that reads the vector at `lane` of a pixel.
///
/// # Safety
/// The function is only called with offsets of pixels that lie inside the slice.
#[inline(always)]
unsafe fn reader<S: Simd>(simd: S, lane: usize) -> impl Fn(&[f32], usize) -> S::Vector + Copy {
    // SAFETY: guaranteed by the caller.
    move |values, at| unsafe { simd.read(values, at + lane) }
}

/// Returns a function that reads the vector at `lane` of a pixel of a value that is also written.
///
/// # Safety
/// The function is only called with offsets of pixels that lie inside the slice, and that no other thread writes.
#[inline(always)]
unsafe fn shared_reader<S: Simd>(simd: S, values: SharedMutSlice, lane: usize) -> impl Fn(usize) -> S::Vector + Copy {
    move |at| {
        debug_assert!(at + lane + S::LANES <= values.len());
        // SAFETY: guaranteed by the caller.
        unsafe { simd.load(values.as_mut_ptr().add(at + lane)) }
    }
}

/// Returns a function that writes the vector at `lane` of a pixel.
///
/// # Safety
/// The function is only called with offsets of pixels that lie inside the slice, and that no other thread accesses.
#[inline(always)]
unsafe fn writer<S: Simd>(simd: S, values: SharedMutSlice, lane: usize) -> impl Fn(usize, S::Vector) + Copy {
    // SAFETY: guaranteed by the caller.
    move |at, vector| unsafe { simd.write(values, at + lane, vector) }
}
