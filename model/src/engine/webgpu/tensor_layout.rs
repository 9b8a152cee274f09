//! The memory layout of values on the GPU: channels in blocks of 4, `[batch, channels / 4, height, width]` of `vec4f`
//! or `vec4<f16>`.
//!
//! Inputs of padded convolutions and pools are stored with a border of zeros, so that kernels need no bounds checks.
//! Buffers are zero-initialised, kernels write only the interior, and only values of the same layout share a buffer:
//! borders stay zero.

use super::storage::ElementType;
use crate::architecture::Convolution;

/// Number of channels in a block: the lanes of one vector.
pub const BLOCK: usize = 4;

/// Number of blocks after a value that the last tiles may read; what they compute from them is discarded.
const OVERHANG_BLOCKS: u64 = 32;

/// The shape of a value and the border around it. Strides and offsets are in blocks. Lanes beyond the last channel
/// are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorLayout {
    pub channels: usize,
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Width of the zero border on each side, in pixels.
    pub border: usize,
    pub element: ElementType,
}

impl TensorLayout {
    /// Returns the number of channel blocks of an image.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Returns the number of blocks without the border, `[batch, blocks, height, width]`.
    pub fn interior_blocks(&self) -> usize {
        self.batch * self.blocks() * self.height * self.width
    }

    /// Returns the distance between vertically adjacent pixels.
    pub fn row_stride(&self) -> usize {
        self.width + 2 * self.border
    }

    /// Returns the distance between channel blocks of a pixel.
    pub fn plane_stride(&self) -> usize {
        (self.height + 2 * self.border) * self.row_stride()
    }

    /// Returns the distance between images.
    pub fn image_stride(&self) -> usize {
        self.blocks() * self.plane_stride()
    }

    /// Returns the offset of the first pixel inside the border from the start of its plane.
    pub fn interior_offset(&self) -> usize {
        self.border * (self.row_stride() + 1)
    }

    /// Returns the offset of the first pixel that a window with this padding reads from the start of its plane.
    pub fn window_offset(&self, padding: usize) -> usize {
        (self.border - padding) * (self.row_stride() + 1)
    }

    /// Returns the size in bytes, which may exceed the address space.
    pub fn bytes(&self) -> u64 {
        let [batch, blocks, height, width, border] =
            [self.batch, self.blocks(), self.height, self.width, self.border].map(|count| count as u64);
        let plane = (height + 2 * border) * (width + 2 * border);
        (batch * blocks * plane + OVERHANG_BLOCKS) * (BLOCK * self.element.bytes()) as u64
    }

    /// Converts `[batch, channels, height, width]` to this layout.
    ///
    /// # Errors
    /// Returns the first number that overflows the element type.
    pub fn pack(&self, values: &[f32]) -> Result<Vec<u8>, f32> {
        let mut packed = vec![0.0; self.batch * self.image_stride() * BLOCK];
        self.for_each_element(|index, packed_index| packed[packed_index] = values[index]);
        self.element.encode(&packed)
    }

    /// Converts this layout to `[batch, channels, height, width]`.
    pub fn unpack(&self, packed: &[u8]) -> Vec<f32> {
        let packed = self.element.decode(packed);
        let mut values = vec![0.0; self.batch * self.channels * self.height * self.width];
        self.for_each_element(|index, packed_index| values[index] = packed[packed_index]);
        values
    }

    /// Calls `visit` with the index of each element in `[batch, channels, height, width]` and its index in this layout.
    fn for_each_element(&self, mut visit: impl FnMut(usize, usize)) {
        let mut index = 0;
        for image in 0..self.batch {
            for channel in 0..self.channels {
                let start =
                    image * self.image_stride() + channel / BLOCK * self.plane_stride() + self.interior_offset();
                for y in 0..self.height {
                    for x in 0..self.width {
                        visit(index, (start + y * self.row_stride() + x) * BLOCK + channel % BLOCK);
                        index += 1;
                    }
                }
            }
        }
    }
}

/// Returns the number of blocks of input channels that each output of a layer depends on.
pub fn input_blocks(layer: &Convolution) -> usize {
    (layer.in_channels / layer.groups).div_ceil(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_values_round_trip_and_borders_are_zero() {
        for element in [ElementType::F32, ElementType::F16] {
            let layout = TensorLayout { channels: 6, batch: 2, height: 3, width: 5, border: 1, element };
            let values: Vec<f32> = (1..=2 * 6 * 3 * 5).map(|value| value as f32).collect();
            let packed = layout.pack(&values).unwrap();
            assert_eq!(layout.unpack(&packed), values);
            let packed = element.decode(&packed);
            assert_eq!(packed.len(), 2 * 2 * 5 * 7 * 4);
            assert_eq!(packed.iter().sum::<f32>(), values.iter().sum::<f32>());
            // The second channel of the first pixel, after a row and a column of the border.
            assert_eq!(packed[(7 + 1) * 4 + 1], 16.0);
        }
    }
}
