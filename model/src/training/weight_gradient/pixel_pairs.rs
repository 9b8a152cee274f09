//! Operands of a weight gradient in bf16.
//!
//! An instruction multiplies pairs of bf16 and adds both products to a sum. A weight gradient is a sum over pixels, so a
//! pair consists of the values of two adjacent output pixels, or of the inputs that a filter element multiplies for
//! them.

use super::super::value::Execution;
use crate::architecture::Convolution;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use crate::engine::cpu::simd::{Kernel, Simd};

/// Conversion of a blocked value to pairs, `[filter elements, blocks, batch, height, width / 2, 16]`, with height and
/// width of the output. The last pair of a row of odd width ends with zero.
pub struct PixelPairs {
    /// Offset of the first pixel of each filter element from that of the first element.
    elements: Vec<usize>,
    /// Number of blocks of channels.
    blocks: usize,
    block_stride: usize,
    /// Offset of the first pixel of each row in a block, image after image.
    rows: Vec<usize>,
    rows_per_image: usize,
    /// Number of output pixels in a row.
    width: usize,
    /// Distance from the value of an output pixel to that of the next.
    step: usize,
}

impl PixelPairs {
    /// Returns the conversion of the input of a layer.
    pub fn of_inputs(layer: &Convolution, input: &BlockedShape, gradient: &BlockedShape) -> Self {
        let (kernel, stride, inset) = (layer.kernel, layer.stride, input.border - layer.padding);
        let elements =
            (0..kernel * kernel).map(|element| element / kernel * input.row_stride() + element % kernel * BLOCK);
        PixelPairs {
            elements: elements.collect(),
            blocks: input.blocks(),
            block_stride: input.block_stride(),
            rows: rows(gradient, |image, y| input.offset(image, y * stride + inset, inset)),
            rows_per_image: gradient.height,
            width: gradient.width,
            step: stride * BLOCK,
        }
    }

    /// Returns the conversion of the gradient of a layer's output.
    pub fn of_gradients(gradient: &BlockedShape) -> Self {
        PixelPairs {
            elements: vec![0],
            blocks: gradient.blocks(),
            block_stride: gradient.block_stride(),
            rows: rows(gradient, |image, y| gradient.offset(image, y + gradient.border, gradient.border)),
            rows_per_image: gradient.height,
            width: gradient.width,
            step: BLOCK,
        }
    }

    /// Returns the number of pairs of a row of pixels, for one block.
    pub fn row_len(&self) -> usize {
        self.width.div_ceil(2) * BLOCK
    }

    /// Returns the number of pairs of a block.
    pub fn block_len(&self) -> usize {
        self.rows.len() * self.row_len()
    }

    /// Returns the number of pairs of a filter element.
    pub fn element_len(&self) -> usize {
        self.blocks * self.block_len()
    }

    /// Returns the number of all pairs.
    pub fn len(&self) -> usize {
        self.elements.len() * self.element_len()
    }

    /// Rounds a value to pairs.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn round(&self, values: &[f32], pairs: &mut [f32], execution: Execution) {
        assert!(pairs.len() == self.len() && execution.set.has_bf16_pairs());
        let target = SharedMutSlice::new(pairs);
        let images = self.rows.len() / self.rows_per_image;
        execution.threads.for_each(self.elements.len() * self.blocks * images, |task| {
            let (block, image) = (task / images, task % images);
            let source = self.elements[block / self.blocks] + block % self.blocks * self.block_stride;
            let rows = image * self.rows_per_image..(image + 1) * self.rows_per_image;
            let at = block * self.block_len() + rows.start * self.row_len();
            execution.set.run(RoundRows { pairs: self, rows: &self.rows[rows], values, source, target, at });
        });
    }
}

/// Returns the offset of each row of output pixels, image after image.
fn rows(output: &BlockedShape, offset: impl Fn(usize, usize) -> usize) -> Vec<usize> {
    (0..output.batch * output.height).map(|row| offset(row / output.height, row % output.height)).collect()
}

/// Rounds rows of one block and filter element.
struct RoundRows<'a> {
    pairs: &'a PixelPairs,
    rows: &'a [usize],
    values: &'a [f32],
    /// Offset of the block and filter element.
    source: usize,
    target: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for RoundRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let RoundRows { pairs: PixelPairs { width, step, .. }, rows, values, source, target, mut at } = self;
        let (width, step) = (*width, *step);
        assert!(simd.has_bf16_pairs() && at + rows.len() * self.pairs.row_len() <= target.len());
        for row in rows {
            let first = source + row;
            assert!(first + (width - 1) * step + BLOCK <= values.len());
            for x in (0..width).step_by(2) {
                for lane in (0..BLOCK).step_by(S::LANES) {
                    let pixel = first + x * step + lane;
                    // SAFETY: the assertions above check that the processor supports pairs of bf16, that all pixels of
                    // the row lie inside the values, and that the target has room for the pairs. Each task writes its
                    // own rows.
                    unsafe {
                        let second = if x + 1 < width { simd.read(values, pixel + step) } else { simd.splat(0.0) };
                        simd.write(target, at + lane, simd.zip_to_bf16(simd.read(values, pixel), second));
                    }
                }
                at += BLOCK;
            }
        }
    }
}
