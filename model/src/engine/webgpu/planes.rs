//! How values lie on the GPU: channels in blocks of 4, `[batch, channels / 4, height, width]` of `vec4f` or `vec4h`.
//!
//! Where a consumer pads, the value carries a border of zeros, so that no kernel ever asks whether it is outside. Buffers
//! are zero at first, kernels write the inside alone, and only values of one shape share a buffer: borders stay zero.

use super::storage::Element;

/// Channels of a block, one vector.
pub const BLOCK: usize = 4;

/// Blocks behind a value that tiles at its end may read and throw away.
const OVERHANG: u64 = 32;

/// The shape of a value. Channels beyond the last are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    pub channels: usize,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Rows and columns of zeros on each side.
    pub border: usize,
    pub element: Element,
}

impl Planes {
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// From a pixel to the one below it, in blocks.
    pub fn pitch(&self) -> usize {
        self.width + 2 * self.border
    }

    /// From a block of channels to the next.
    pub fn plane(&self) -> usize {
        (self.height + 2 * self.border) * self.pitch()
    }

    /// From an image to the next.
    pub fn image(&self) -> usize {
        self.blocks() * self.plane()
    }

    /// Of the first pixel behind the border, from the start of its plane.
    pub fn inside(&self) -> usize {
        self.border * (self.pitch() + 1)
    }

    /// From the start of a plane to the first pixel that a window with this padding reads.
    pub fn inset(&self, padding: usize) -> usize {
        (self.border - padding) * (self.pitch() + 1)
    }

    /// Bytes that it takes, more than can be addressed perhaps.
    pub fn bytes(&self) -> u64 {
        let [batch, blocks, height, width, border] =
            [self.batch, self.blocks(), self.height, self.width, self.border].map(|count| count as u64);
        let plane = (height + 2 * border) * (width + 2 * border);
        (batch * blocks * plane + OVERHANG) * (BLOCK * self.element.bytes()) as u64
    }

    /// From `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// A number that is too large for the element.
    pub fn pack(&self, planes: &[f32]) -> Result<Vec<u8>, f32> {
        let mut packed = vec![0.0; self.batch * self.image() * BLOCK];
        self.each(|plane, at| packed[at] = planes[plane]);
        self.element.encode(&packed)
    }

    /// To `[batch, channels, height, width]`.
    pub fn unpack(&self, packed: &[u8]) -> Vec<f32> {
        let packed = self.element.decode(packed);
        let mut planes = vec![0.0; self.batch * self.channels * self.height * self.width];
        self.each(|plane, at| planes[plane] = packed[at]);
        planes
    }

    /// For each element: where it lies in `[batch, channels, height, width]`, and where here.
    fn each(&self, mut element: impl FnMut(usize, usize)) {
        let mut plane = 0;
        for image in 0..self.batch {
            for channel in 0..self.channels {
                let start = image * self.image() + channel / BLOCK * self.plane() + self.inside();
                for y in 0..self.height {
                    for x in 0..self.width {
                        element(plane, (start + y * self.pitch() + x) * BLOCK + channel % BLOCK);
                        plane += 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_the_rest_is_zero() {
        for element in [Element::F32, Element::F16] {
            let shape = Planes { channels: 6, batch: 2, height: 3, width: 5, border: 1, element };
            let planes: Vec<f32> = (1..=2 * 6 * 3 * 5).map(|value| value as f32).collect();
            let packed = shape.pack(&planes).unwrap();
            assert_eq!(shape.unpack(&packed), planes);
            let packed = element.decode(&packed);
            assert_eq!(packed.len(), 2 * 2 * 5 * 7 * 4);
            assert_eq!(packed.iter().sum::<f32>(), planes.iter().sum::<f32>());
            // The first pixel's second channel, behind a row and a column of the border.
            assert_eq!(packed[(7 + 1) * 4 + 1], 16.0);
        }
    }
}
