//! Memory layout of values: channels in blocks of 16, `[channels / 16, batch, height, width, 16]`.
//!
//! The 16 channels of a pixel fill one cache line: one AVX-512 vector, two AVX2 vectors or four 128-bit vectors.
//! Neighbouring pixels are adjacent in memory, as are the images of a batch, so a 1x1 convolution sees them as one long
//! row. Inputs of padded convolutions are stored with a zero border, so that kernels need no bounds checks at the
//! edges.

/// Number of channels in a block.
pub const BLOCK: usize = 16;

/// The number of blocks is rounded up to a multiple of this, so that the widest register tile, 32 channels, always
/// fits.
const BLOCKS_PER_TILE: usize = 2;

/// Shape of a value, `[channels / 16, batch, height + 2 * border, width + 2 * border, 16]`. The content of blocks
/// beyond the last channel is unspecified and never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedShape {
    pub channels: usize,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Width of the zero border on each side, in pixels.
    pub border: usize,
}

impl BlockedShape {
    /// Returns the number of blocks, including unused ones at the end.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK).next_multiple_of(BLOCKS_PER_TILE)
    }

    /// Returns the distance from a pixel to the one below it, in values.
    pub fn row_stride(&self) -> usize {
        (self.width + 2 * self.border) * BLOCK
    }

    /// Returns the distance from an image to the next, in values.
    pub fn image_stride(&self) -> usize {
        (self.height + 2 * self.border) * self.row_stride()
    }

    /// Returns the distance from a block of channels to the next, in values.
    pub fn block_stride(&self) -> usize {
        self.batch * self.image_stride()
    }

    /// Returns the number of f32 values in memory.
    pub fn len(&self) -> usize {
        self.blocks() * self.block_stride()
    }

    /// Returns the offset of the first channel of a pixel in its block; `y` and `x` count from the corner of the
    /// border.
    pub fn offset(&self, image: usize, y: usize, x: usize) -> usize {
        image * self.image_stride() + y * self.row_stride() + x * BLOCK
    }

    /// Returns the number of pixels of the batch, without borders.
    pub fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Zeroes the border in one block of channels.
    pub fn clear_border(&self, block: &mut [f32]) {
        if self.border == 0 {
            return;
        }
        let (row_stride, edge) = (self.row_stride(), self.border * BLOCK);
        for image in block.chunks_exact_mut(self.image_stride()) {
            image[..self.border * row_stride].fill(0.0);
            image[(self.border + self.height) * row_stride..].fill(0.0);
            for row in image.chunks_exact_mut(row_stride) {
                row[..edge].fill(0.0);
                row[row_stride - edge..].fill(0.0);
            }
        }
    }

    /// Appends `values` to `unpacked` in the layout `[batch, channels, height, width]`.
    pub fn unpack_nchw(&self, values: &[f32], unpacked: &mut Vec<f32>) {
        for image in 0..self.batch {
            for channel in 0..self.channels {
                let first = channel / BLOCK * self.block_stride() + channel % BLOCK;
                for y in 0..self.height {
                    let row = first + self.offset(image, y + self.border, self.border);
                    unpacked.extend((0..self.width).map(|x| values[row + x * BLOCK]));
                }
            }
        }
    }
}
