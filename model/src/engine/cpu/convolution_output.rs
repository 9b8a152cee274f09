//! The output of a convolution: adds bias and residual, applies the ReLU and writes the value.

use super::blocked_shape::{BLOCK, BlockedShape};
use super::buffer::SharedMutSlice;
use super::simd::Simd;

/// The pixels of a value that a convolution computes: all of them, or those at some position plus multiples of `step`.
#[derive(Clone, Copy)]
pub struct PixelGrid {
    /// Distance from a computed pixel to the next.
    pub step: usize,
    /// Position of the first computed pixel, `[y, x]`.
    pub first: [usize; 2],
    /// Number of computed rows in an image.
    pub height: usize,
    /// Number of computed pixels in a row.
    pub width: usize,
}

impl PixelGrid {
    /// Returns the grid of all pixels of a value.
    pub fn all(shape: &BlockedShape) -> Self {
        PixelGrid::every(shape, 1, [0, 0])
    }

    /// Returns the grid of the pixels at `first` plus multiples of `step`.
    pub fn every(shape: &BlockedShape, step: usize, first: [usize; 2]) -> Self {
        let count = |side: usize, first: usize| side.saturating_sub(first).div_ceil(step);
        PixelGrid { step, first, height: count(shape.height, first[0]), width: count(shape.width, first[1]) }
    }

    /// Returns the number of computed pixels in an image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Returns the offset of a pixel of the grid in a block of channels.
    #[inline(always)]
    pub fn offset(&self, shape: &BlockedShape, image: usize, y: usize, x: usize) -> usize {
        let [first_y, first_x] = self.first;
        shape.offset(image, first_y + y * self.step + shape.border, first_x + x * self.step + shape.border)
    }
}

/// Output of a convolution with everything that is fused into it.
#[derive(Clone, Copy)]
pub struct ConvolutionOutput<'a> {
    /// Bias, `[out_channels]`, padded to whole panels.
    pub bias: &'a [f32],
    /// Value that is added before the ReLU, with its shape.
    pub residual: Option<(&'a [f32], &'a BlockedShape)>,
    pub relu: bool,
    /// The value that is written, `[out_channels / 16, batch, height, width, 16]`.
    pub values: SharedMutSlice<'a>,
    pub shape: &'a BlockedShape,
    /// The pixels that are written.
    pub grid: PixelGrid,
}

impl ConvolutionOutput<'_> {
    /// Checks what [`write`](Self::write) relies on: bias, residual and output cover `channels` output channels.
    ///
    /// # Panics
    /// Panics if they do not.
    pub fn check(&self, channels: usize) {
        assert!(self.bias.len() >= channels && self.shape.blocks() * BLOCK >= channels);
        assert_eq!(self.values.len(), self.shape.len());
        let PixelGrid { step, first: [y, x], height, width } = self.grid;
        assert!(height == 0 || y + (height - 1) * step < self.shape.height);
        assert!(width == 0 || x + (width - 1) * step < self.shape.width);
        if let Some((values, shape)) = self.residual {
            assert_eq!(values.len(), shape.len());
            let [shape, residual_shape] = [self.shape, shape].map(|shape| BlockedShape { border: 0, ..*shape });
            assert_eq!(shape, residual_shape);
        }
    }

    /// Writes one vector of channels, from `channel` on, of one pixel. `at` is the offset of the pixel in a block of
    /// the output, `residual_at` its offset in a block of the residual.
    ///
    /// # Safety
    /// [`check`](Self::check) has succeeded for all channels of the vector, the offsets are those of a pixel inside the
    /// image, and no other thread accesses these values of the output.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(&self, simd: S, sum: S::Vector, channel: usize, at: usize, residual_at: usize) {
        let (block, lane) = (channel / BLOCK, channel % BLOCK);
        // SAFETY: the caller guarantees that the pixel and its channels lie inside bias, residual and output, and that
        // no other thread accesses these values of the output.
        unsafe {
            let mut sum = simd.add(sum, simd.read(self.bias, channel));
            if let Some((residual, shape)) = self.residual {
                sum = simd.add(sum, simd.read(residual, block * shape.block_stride() + residual_at + lane));
            }
            if self.relu {
                // With the operands in this order, a NaN is preserved, and detected in the logits.
                sum = simd.max(simd.splat(0.0), sum);
            }
            simd.write(self.values, block * self.shape.block_stride() + at + lane, sum);
        }
    }
}
