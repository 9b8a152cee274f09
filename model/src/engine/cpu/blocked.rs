//! How values lie in memory: channels in blocks of 16, `[channels / 16, batch, height, width, 16]`.
//!
//! A pixel's block is one cache line and one AVX-512 vector, two of AVX2, four of the 128-bit sets. Neighbouring pixels
//! are neighbours in memory, across the images of a batch as well, so a convolution of 1x1 sees one long row of them.
//! Where a consumer pads, the value carries a border of zeros, so that no kernel ever asks whether it is outside.

/// Channels of a block.
pub const BLOCK: usize = 16;

/// Blocks are counted up to a multiple of this, so that the widest tile of sums, 32 channels, always finds its place.
const BLOCKS_OF_A_TILE: usize = 2;

/// The shape of a value. Blocks beyond the last channel hold anything: nothing reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub channels: usize,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Rows and columns of zeros on each side.
    pub border: usize,
}

impl Blocked {
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK).next_multiple_of(BLOCKS_OF_A_TILE)
    }

    /// From a pixel to the one below it.
    pub fn pitch(&self) -> usize {
        (self.width + 2 * self.border) * BLOCK
    }

    /// From an image to the next.
    pub fn image(&self) -> usize {
        (self.height + 2 * self.border) * self.pitch()
    }

    /// From a block of channels to the next.
    pub fn plane(&self) -> usize {
        self.batch * self.image()
    }

    pub fn len(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// Where the first channel of a pixel lies; `y` and `x` count from the corner of the border.
    pub fn offset(&self, image: usize, y: usize, x: usize) -> usize {
        image * self.image() + y * self.pitch() + x * BLOCK
    }

    /// Pixels of the batch, the border left out.
    pub fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Sets the border of a block's plane to zero.
    pub fn clear_border(&self, plane: &mut [f32]) {
        if self.border == 0 {
            return;
        }
        let (pitch, edge) = (self.pitch(), self.border * BLOCK);
        for image in plane.chunks_exact_mut(self.image()) {
            image[..self.border * pitch].fill(0.0);
            image[(self.border + self.height) * pitch..].fill(0.0);
            for row in image.chunks_exact_mut(pitch) {
                row[..edge].fill(0.0);
                row[pitch - edge..].fill(0.0);
            }
        }
    }

    /// Appends the value as `[batch, channels, height, width]`.
    pub fn unpack(&self, values: &[f32], planes: &mut Vec<f32>) {
        for image in 0..self.batch {
            for channel in 0..self.channels {
                let plane = channel / BLOCK * self.plane() + channel % BLOCK;
                for y in 0..self.height {
                    let row = plane + self.offset(image, y + self.border, self.border);
                    planes.extend((0..self.width).map(|x| values[row + x * BLOCK]));
                }
            }
        }
    }
}
