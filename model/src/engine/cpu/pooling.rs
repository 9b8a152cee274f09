//! The pools. Both are bound by memory; what counts is that they read it once and in order.

use super::blocked::{BLOCK, Blocked};
use super::buffer::Target;
use super::simd::{InstructionSet, Kernel, Simd};
use super::threads::Threads;
use crate::architecture::MaxPool;

/// The largest value of each window; padding counts as minus infinity.
pub struct Max<'a> {
    pub pool: MaxPool,
    pub input: &'a [f32],
    pub input_shape: &'a Blocked,
    pub output: Target<'a>,
    pub output_shape: &'a Blocked,
}

impl Max<'_> {
    pub fn run(&self, set: InstructionSet, threads: &Threads) {
        let Blocked { batch, height, .. } = *self.output_shape;
        assert_eq!(self.input.len(), self.input_shape.len());
        assert_eq!(self.output.len(), self.output_shape.len());
        let blocks = self.output_shape.blocks();
        threads.for_each(blocks * batch * height, |line| {
            let (block, line) = (line / (batch * height), line % (batch * height));
            set.run(MaxLine { max: self, block, image: line / height, y: line % height });
        });
    }
}

/// One line of the output.
struct MaxLine<'a> {
    max: &'a Max<'a>,
    block: usize,
    image: usize,
    y: usize,
}

impl Kernel for MaxLine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let MaxLine { max: Max { pool, input, input_shape: from, output, output_shape: to }, block, image, y } = self;
        let window = |start: usize, side: usize| {
            let start = start * pool.stride;
            start.saturating_sub(pool.padding)..(start + pool.kernel - pool.padding).min(side)
        };
        let rows = window(y, from.height);
        for x in 0..to.width {
            let columns = window(x, from.width);
            let at = block * to.plane() + to.offset(image, y + to.border, x + to.border);
            for lane in (0..BLOCK).step_by(S::LANES) {
                let mut largest = simd.splat(f32::NEG_INFINITY);
                for y in rows.clone() {
                    for x in columns.clone() {
                        let at = block * from.plane() + from.offset(image, y + from.border, x + from.border) + lane;
                        // SAFETY: the window is cut to the image.
                        largest = simd.max(largest, unsafe { simd.read(input, at) });
                    }
                }
                // SAFETY: each task has a line of its own.
                unsafe { simd.write(*output, at + lane, largest) };
            }
        }
    }
}

/// The mean of each channel: `[channels / 16, batch, 1, 1, 16]`.
pub struct Average<'a> {
    pub input: &'a [f32],
    pub input_shape: &'a Blocked,
    pub output: Target<'a>,
    pub output_shape: &'a Blocked,
}

impl Average<'_> {
    pub fn run(&self, set: InstructionSet, threads: &Threads) {
        assert_eq!(self.input.len(), self.input_shape.len());
        assert_eq!(self.output.len(), self.output_shape.len());
        threads.for_each(self.output_shape.blocks(), |block| set.run(AverageBlock { average: self, block }));
    }
}

/// A block of channels.
struct AverageBlock<'a> {
    average: &'a Average<'a>,
    block: usize,
}

impl Kernel for AverageBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AverageBlock { average: Average { input, input_shape: from, output, output_shape: to }, block } = self;
        let scale = simd.splat(1.0 / (from.height * from.width) as f32);
        for image in 0..from.batch {
            for lane in (0..BLOCK).step_by(S::LANES) {
                let mut sum = simd.splat(0.0);
                for y in 0..from.height {
                    for x in 0..from.width {
                        let at = block * from.plane() + from.offset(image, y + from.border, x + from.border) + lane;
                        // SAFETY: inside the image.
                        sum = simd.add(sum, unsafe { simd.read(input, at) });
                    }
                }
                let at = block * to.plane() + to.offset(image, 0, 0) + lane;
                // SAFETY: each task has a block of its own.
                unsafe { simd.write(*output, at, simd.multiply(sum, scale)) };
            }
        }
    }
}
