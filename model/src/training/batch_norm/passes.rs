//! The passes of a batch norm over a value, compiled for each instruction set.

use super::super::value::{Value, ValueMut};
use super::coefficients::Coefficients;
use super::regions::Region;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd};

/// What is added to the normalised value before the ReLU.
#[derive(Clone, Copy)]
pub enum Shortcut<'a> {
    None,
    Identity(Value<'a>),
    /// The output of the convolution of a projection, and the coefficients of its norm.
    Projection(Value<'a>, &'a Coefficients),
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

/// Sums, and sums of squared deviations from the mean of the region.
pub struct Moments<'a> {
    pub region: Region,
    pub input: Value<'a>,
    pub sums: SharedMutSlice<'a>,
    pub at: usize,
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

/// Computes `relu(norm(input) + shortcut)`.
pub struct Apply<'a> {
    pub coefficients: &'a Coefficients,
    pub region: Region,
    pub input: Value<'a>,
    pub shortcut: Shortcut<'a>,
    pub output: ValueMut<'a>,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Apply { coefficients, region, input, shortcut, output } = self;
        let width = input.shape.width;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let normalisation = coefficients.normalisation(simd, region.block * BLOCK + lane);
            // SAFETY: all rows lie inside their values, and each task writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, output.values, lane)) };
            let normalised = |at: usize| normalisation.apply(simd, read(input.values, at));
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
                Shortcut::Projection(other, other_coefficients) => {
                    let projection = other_coefficients.normalisation(simd, region.block * BLOCK + lane);
                    region.for_each_row([input.shape, output.shape, other.shape], |[from, to, other_from]| {
                        for at in (0..width * BLOCK).step_by(BLOCK) {
                            let projected = projection.apply(simd, read(other.values, other_from + at));
                            write(to + at, relu(simd.add(normalised(from + at), projected)));
                        }
                    });
                }
            }
        }
    }
}

/// Sums of the gradient, and of its product with the deviation from the mean.
pub struct GradientSums<'a> {
    pub coefficients: &'a Coefficients,
    pub region: Region,
    pub input: Value<'a>,
    pub gradient: ValueMut<'a>,
    pub following: Following<Value<'a>>,
    pub sums: SharedMutSlice<'a>,
    pub at: usize,
}

impl Kernel for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GradientSums { coefficients, region, input, gradient, following, sums, at } = self;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let normalisation = coefficients.normalisation(simd, region.block * BLOCK + lane);
            // SAFETY: all rows lie inside their values, and each task reads and writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, gradient.values, lane)) };
            // SAFETY: as above.
            let read_gradient = unsafe { shared_reader(simd, gradient.values, lane) };
            let mut totals = [simd.splat(0.0); 2];
            let mut add = |gradient: S::Vector, value: S::Vector| {
                totals[0] = simd.add(totals[0], gradient);
                totals[1] = simd.multiply_add(gradient, simd.subtract(value, normalisation.mean), totals[1]);
            };
            let pixels = (0..input.shape.width * BLOCK).step_by(BLOCK);
            match following {
                Following::Nothing => region.for_each_row([input.shape, gradient.shape], |[from, at]| {
                    pixels.clone().for_each(|x| add(read_gradient(at + x), read(input.values, from + x)));
                }),
                Following::Relu => region.for_each_row([input.shape, gradient.shape], |[from, at]| {
                    for x in pixels.clone() {
                        let value = read(input.values, from + x);
                        let normalised = normalisation.apply(simd, value);
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
pub struct InputGradient<'a> {
    pub coefficients: &'a Coefficients,
    pub region: Region,
    pub input: Value<'a>,
    pub gradient: ValueMut<'a>,
    pub is_relu: bool,
    pub output: ValueMut<'a>,
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let InputGradient { coefficients, region, input, gradient, is_relu, output } = self;
        for lane in (0..BLOCK).step_by(S::LANES) {
            let channel = region.block * BLOCK + lane;
            let normalisation = coefficients.normalisation(simd, channel);
            // SAFETY: all rows lie inside their values, and each task reads and writes its own region.
            let (read, write) = unsafe { (reader(simd, lane), writer(simd, output.values, lane)) };
            // SAFETY: as above.
            let read_gradient = unsafe { shared_reader(simd, gradient.values, lane) };
            let [slope, offset] = coefficients.gradient(simd, channel);
            region.for_each_row([input.shape, gradient.shape, output.shape], |[from, at, to]| {
                for x in (0..input.shape.width * BLOCK).step_by(BLOCK) {
                    let value = read(input.values, from + x);
                    let deviation = simd.subtract(value, normalisation.mean);
                    let mut gradient = read_gradient(at + x);
                    if is_relu {
                        gradient = simd.zero_unless_positive(normalisation.apply(simd, value), gradient);
                    }
                    let linear = simd.multiply_add(slope, deviation, offset);
                    write(to + x, simd.multiply_add(normalisation.scale, gradient, linear));
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
