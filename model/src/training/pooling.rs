//! Max-pooling of the stem's normalised output, and global average pooling, with their gradients.

use super::batch_norm::Coefficients;
use super::value::{Execution, Value, ValueMut};
use crate::architecture::MaxPool;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd};
use std::ops::Range;

/// Marks an output that no input determines, because all of its window is zero after the ReLU.
const NO_SOURCE: f32 = -1.0;

/// Max-pooling of `relu(norm(input))`, which remembers which input each output comes from.
pub struct NormMaxPool {
    pool: MaxPool,
    /// Index of the largest value in each window, row by row, or [`NO_SOURCE`], in the layout of the output without a
    /// border.
    sources: Vec<f32>,
}

impl NormMaxPool {
    pub fn new(pool: MaxPool) -> Self {
        NormMaxPool { pool, sources: Vec::new() }
    }

    /// Returns the shape of the output for an input of this shape.
    pub fn output_shape(&self, input: &BlockedShape, border: usize) -> BlockedShape {
        let [height, width] = [input.height, input.width].map(|side| self.pool.output_size(side));
        BlockedShape { height, width, border, ..*input }
    }

    /// Computes the output. `coefficients` are those of the norm.
    pub fn forward(&mut self, coefficients: &Coefficients, input: Value, output: ValueMut, execution: Execution) {
        assert_eq!(*output.shape, self.output_shape(input.shape, output.shape.border));
        let sources_shape = BlockedShape { border: 0, ..*output.shape };
        self.sources.resize(sources_shape.len(), NO_SOURCE);
        let sources = ValueMut::new(&mut self.sources, &sources_shape);
        assert!(input.values.len() == input.shape.len() && output.values.len() == output.shape.len());
        for_each_row(output.shape, execution, |row| {
            execution.set.run(PoolRow { pool: self.pool, coefficients, input, output, sources, row });
        });
    }

    /// Writes the gradient of the normalised input from the gradient of the output, which has no border.
    pub fn gradient(&self, output_gradient: Value, input_gradient: ValueMut, execution: Execution) {
        assert_eq!(*output_gradient.shape, self.output_shape(input_gradient.shape, 0));
        assert_eq!(self.sources.len(), output_gradient.shape.len());
        assert_eq!(input_gradient.values.len(), input_gradient.shape.len());
        let sources = &self.sources;
        for_each_row(input_gradient.shape, execution, |row| {
            execution.set.run(GradientRow { pool: self.pool, sources, output_gradient, input_gradient, row });
        });
    }
}

/// A row of pixels of one block of channels.
#[derive(Clone, Copy)]
struct Row {
    block: usize,
    image: usize,
    y: usize,
}

impl Row {
    /// Returns the offset of a pixel of the row.
    #[inline(always)]
    fn offset(&self, shape: &BlockedShape, x: usize) -> usize {
        self.block * shape.block_stride() + shape.offset(self.image, self.y + shape.border, x + shape.border)
    }
}

/// Calls `task` for every row of a value.
fn for_each_row(shape: &BlockedShape, execution: Execution, task: impl Fn(Row) + Sync) {
    let rows = shape.batch * shape.height;
    execution.threads.for_each(shape.channels.div_ceil(BLOCK) * rows, |index| {
        let (block, row) = (index / rows, index % rows);
        task(Row { block, image: row / shape.height, y: row % shape.height });
    });
}

/// Returns the 16 channels at an offset.
#[inline(always)]
fn pixel(values: &[f32], at: usize) -> &[f32; BLOCK] {
    values[at..at + BLOCK].first_chunk().expect("the slice has this length")
}

/// Writes the 16 channels at an offset.
///
/// # Safety
/// No other thread accesses these values at the same time.
#[inline(always)]
unsafe fn write_pixel(values: SharedMutSlice, at: usize, pixel: [f32; BLOCK]) {
    assert!(at + BLOCK <= values.len());
    // SAFETY: the assertion checks that the pixel lies inside the value, and the caller guarantees that no other thread
    // accesses it.
    unsafe { values.as_mut_ptr().add(at).cast::<[f32; BLOCK]>().write(pixel) }
}

/// Pools one row of the output.
struct PoolRow<'a> {
    pool: MaxPool,
    coefficients: &'a Coefficients,
    input: Value<'a>,
    output: ValueMut<'a>,
    sources: ValueMut<'a>,
    row: Row,
}

impl Kernel for PoolRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PoolRow { pool, coefficients, input: Value { values, shape: from }, output, sources, row } = self;
        // The elements of a window that lie in the image, and their positions.
        let window = |start: usize, side: usize| {
            let first = (start * pool.stride).saturating_sub(pool.padding);
            let skipped = pool.padding.saturating_sub(start * pool.stride);
            (skipped..pool.kernel).zip(first..side)
        };
        for lane in (0..BLOCK).step_by(S::LANES) {
            let normalisation = coefficients.normalisation(simd, row.block * BLOCK + lane);
            for x in 0..output.shape.width {
                let (mut largest, mut source) = (simd.splat(0.0), simd.splat(NO_SOURCE));
                for (ky, y) in window(row.y, from.height) {
                    let row = Row { y, ..row };
                    for (kx, x) in window(x, from.width) {
                        // SAFETY: the window is clipped to the image, and the value has the length of its shape.
                        let value = unsafe { simd.read(values, row.offset(from, x) + lane) };
                        let value = normalisation.apply(simd, value);
                        let index = simd.splat((ky * pool.kernel + kx) as f32);
                        source = simd.select_positive(simd.subtract(value, largest), index, source);
                        // If one value of a channel is not finite, neither is its mean, so all values are NaN. With the
                        // operands in this order, the output is NaN too, which is detected in the loss.
                        largest = simd.max(largest, value);
                    }
                }
                // SAFETY: the pixel lies inside both values, and each task writes its own row.
                unsafe {
                    simd.write(output.values, row.offset(output.shape, x) + lane, largest);
                    simd.write(sources.values, row.offset(sources.shape, x) + lane, source);
                }
            }
        }
    }
}

/// Computes one row of the gradient of the input: for each pixel, the gradients of the outputs that come from it.
struct GradientRow<'a> {
    pool: MaxPool,
    sources: &'a [f32],
    output_gradient: Value<'a>,
    input_gradient: ValueMut<'a>,
    row: Row,
}

impl Kernel for GradientRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GradientRow { pool, sources, output_gradient: Value { values, shape }, input_gradient, row } = self;
        // The outputs whose windows contain a position.
        let outputs = |position: usize, side: usize| -> Range<usize> {
            let padded = position + pool.padding;
            let first = (padded + 1).saturating_sub(pool.kernel).div_ceil(pool.stride);
            first..(padded / pool.stride + 1).min(side)
        };
        for lane in (0..BLOCK).step_by(S::LANES) {
            for x in 0..input_gradient.shape.width {
                let mut sum = simd.splat(0.0);
                for output_y in outputs(row.y, shape.height) {
                    let ky = row.y + pool.padding - output_y * pool.stride;
                    let output_row = Row { y: output_y, ..row };
                    for output_x in outputs(x, shape.width) {
                        let index = ky * pool.kernel + x + pool.padding - output_x * pool.stride;
                        let at = output_row.offset(shape, output_x) + lane;
                        // SAFETY: the output lies inside the value, and `sources` has the same length.
                        let [source, gradient] = [sources, values].map(|values| unsafe { simd.read(values, at) });
                        // Positive if and only if both indices are equal.
                        let difference = simd.subtract(source, simd.splat(index as f32));
                        let is_source = simd.subtract(simd.splat(0.5), simd.multiply(difference, difference));
                        sum = simd.add(sum, simd.zero_unless_positive(is_source, gradient));
                    }
                }
                let at = row.offset(input_gradient.shape, x) + lane;
                // SAFETY: the pixel lies inside the gradient, and each task writes its own row.
                unsafe { simd.write(input_gradient.values, at, sum) };
            }
        }
    }
}

/// Writes the mean of each channel to `features`, `[batch, channels]`.
pub fn global_average_pool(input: Value, features: &mut [f32], execution: Execution) {
    let Value { values, shape } = input;
    let channels = shape.channels;
    assert_eq!(features.len(), shape.batch * channels);
    let features = SharedMutSlice::new(features);
    let scale = 1.0 / (shape.height * shape.width) as f32;
    let blocks = channels.div_ceil(BLOCK);
    execution.threads.for_each(shape.batch * blocks, |index| {
        let (image, block) = (index / blocks, index % blocks);
        let mut sum = [0.0; BLOCK];
        for y in 0..shape.height {
            let row = Row { block, image, y };
            for x in 0..shape.width {
                sum.iter_mut().zip(pixel(values, row.offset(shape, x))).for_each(|(sum, value)| *sum += value);
            }
        }
        for (channel, sum) in (block * BLOCK..channels).zip(sum) {
            // SAFETY: the channel is one of the image's features, which only this task writes.
            unsafe { *features.as_mut_ptr().add(image * channels + channel) = sum * scale };
        }
    });
}

/// Writes the gradient of the input of [`global_average_pool`] from that of its output, `[batch, channels]`.
pub fn global_average_pool_gradient(features: &[f32], input_gradient: ValueMut, execution: Execution) {
    let ValueMut { values, shape } = input_gradient;
    assert_eq!(features.len(), shape.batch * shape.channels);
    let scale = 1.0 / (shape.height * shape.width) as f32;
    for_each_row(shape, execution, |row| {
        let channels = row.block * BLOCK..((row.block + 1) * BLOCK).min(shape.channels);
        let mut gradient = [0.0; BLOCK];
        let features = &features[row.image * shape.channels..][channels];
        gradient.iter_mut().zip(features).for_each(|(gradient, feature)| *gradient = feature * scale);
        for x in 0..shape.width {
            // SAFETY: each task writes its own row.
            unsafe { write_pixel(values, row.offset(shape, x), gradient) };
        }
    });
}
