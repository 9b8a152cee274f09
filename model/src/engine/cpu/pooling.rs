//! Max-pooling and global average pooling. Both are bound by memory bandwidth, so they read their input once and in
//! order.

use super::blocked_shape::{BLOCK, BlockedShape};
use super::buffer::SharedMutSlice;
use super::simd::{InstructionSet, Kernel, Simd};
use super::thread_pool::ThreadPool;
use crate::architecture::MaxPool;

/// Max-pooling: the largest value of each window. Padding counts as minus infinity.
pub struct MaxPooling<'a> {
    pub pool: MaxPool,
    /// Input, `[channels / 16, batch, height, width, 16]`.
    pub input: &'a [f32],
    pub input_shape: &'a BlockedShape,
    pub output: SharedMutSlice<'a>,
    pub output_shape: &'a BlockedShape,
}

impl MaxPooling<'_> {
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool) {
        let BlockedShape { batch, height, .. } = *self.output_shape;
        assert_eq!(self.input.len(), self.input_shape.len());
        assert_eq!(self.output.len(), self.output_shape.len());
        let blocks = self.output_shape.blocks();
        threads.for_each(blocks * batch * height, |row| {
            let (block, row) = (row / (batch * height), row % (batch * height));
            set.run(MaxPoolRow { pooling: self, block, image: row / height, y: row % height });
        });
    }
}

/// One row of one block of the output.
struct MaxPoolRow<'a> {
    pooling: &'a MaxPooling<'a>,
    block: usize,
    image: usize,
    y: usize,
}

impl Kernel for MaxPoolRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let MaxPoolRow { pooling, block, image, y } = self;
        let MaxPooling { pool, input, input_shape: from, output, output_shape: to } = pooling;
        let window = |start: usize, side: usize| {
            let start = start * pool.stride;
            start.saturating_sub(pool.padding)..(start + pool.kernel - pool.padding).min(side)
        };
        let rows = window(y, from.height);
        for x in 0..to.width {
            let columns = window(x, from.width);
            let at = block * to.block_stride() + to.offset(image, y + to.border, x + to.border);
            for lane in (0..BLOCK).step_by(S::LANES) {
                let mut largest = simd.splat(f32::NEG_INFINITY);
                for y in rows.clone() {
                    for x in columns.clone() {
                        let at =
                            block * from.block_stride() + from.offset(image, y + from.border, x + from.border) + lane;
                        // SAFETY: the window is clipped to the image, and `input` has the length of its shape.
                        largest = simd.max(largest, unsafe { simd.read(input, at) });
                    }
                }
                // SAFETY: the pixel lies inside the output, and each task writes its own row.
                unsafe { simd.write(*output, at + lane, largest) };
            }
        }
    }
}

/// Global average pooling: the mean of each channel, `[channels / 16, batch, 1, 1, 16]`.
pub struct GlobalAveragePooling<'a> {
    /// Input, `[channels / 16, batch, height, width, 16]`.
    pub input: &'a [f32],
    pub input_shape: &'a BlockedShape,
    pub output: SharedMutSlice<'a>,
    pub output_shape: &'a BlockedShape,
}

impl GlobalAveragePooling<'_> {
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool) {
        assert_eq!(self.input.len(), self.input_shape.len());
        assert_eq!(self.output.len(), self.output_shape.len());
        threads.for_each(self.output_shape.blocks(), |block| set.run(GlobalAverageBlock { pooling: self, block }));
    }
}

/// One block of channels.
struct GlobalAverageBlock<'a> {
    pooling: &'a GlobalAveragePooling<'a>,
    block: usize,
}

impl Kernel for GlobalAverageBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GlobalAverageBlock { pooling, block } = self;
        let GlobalAveragePooling { input, input_shape: from, output, output_shape: to } = pooling;
        let scale = simd.splat(1.0 / (from.height * from.width) as f32);
        for image in 0..from.batch {
            for lane in (0..BLOCK).step_by(S::LANES) {
                let mut sum = simd.splat(0.0);
                for y in 0..from.height {
                    for x in 0..from.width {
                        let at =
                            block * from.block_stride() + from.offset(image, y + from.border, x + from.border) + lane;
                        // SAFETY: the pixel lies inside the image, and `input` has the length of its shape.
                        sum = simd.add(sum, unsafe { simd.read(input, at) });
                    }
                }
                let at = block * to.block_stride() + to.offset(image, 0, 0) + lane;
                // SAFETY: the pixel lies inside the output, and each task writes its own block.
                unsafe { simd.write(*output, at, simd.multiply(sum, scale)) };
            }
        }
    }
}
