//! The images of a run as bytes that are written to a buffer.

use super::super::{EngineError, Input};
use super::tensor_layout::TensorLayout;
use crate::preprocess::ImageBatch;

/// Number of words of the header, which precedes the pixels: mean and standard deviation per colour channel, as f32.
const HEADER_WORDS: usize = 6;

/// The images of a run, packed for one of two buffers.
pub enum PackedInput {
    /// Content of the upload buffer: a header and the pixels, as `normalise.wgsl` reads them.
    Pixels(Vec<u8>),
    /// Content of the buffer of the network's input, in its layout.
    Normalised(Vec<u8>),
}

impl PackedInput {
    /// Packs images of `input` from index `first` on, as many as `shape`, `[batch, height, width]`, requires.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if a normalised value overflows the element type of `layout`, the layout
    /// of the network's input.
    pub fn new(
        input: &Input,
        first: usize,
        shape: [usize; 3],
        layout: &TensorLayout,
    ) -> Result<PackedInput, EngineError> {
        match input {
            Input::Pixels(images) => Ok(PackedInput::Pixels(pack_pixels(images, first, shape))),
            Input::Normalised(images) => {
                let [batch, height, width] = shape;
                let image = 3 * height * width;
                let packed = layout.pack(&images.values()[first * image..][..batch * image]);
                packed
                    .map(PackedInput::Normalised)
                    .map_err(|value| EngineError::InvalidInput(format!("value {value} overflows f16")))
            }
        }
    }
}

/// Returns the size of the upload buffer for images `[batch, height, width]`, in bytes; a multiple of 4.
pub fn upload_bytes(shape: [usize; 3]) -> u64 {
    let bytes: u64 = shape.map(|side| side as u64).iter().product::<u64>() * 3;
    (HEADER_WORDS as u64 + bytes.div_ceil(4)) * 4
}

fn pack_pixels(images: &ImageBatch, first: usize, [batch, height, width]: [usize; 3]) -> Vec<u8> {
    let image = height * width * 3;
    let pixels = &images.pixels()[first * image..][..batch * image];
    let header: [f32; HEADER_WORDS] = {
        let ([a, b, c], [d, e, f]) = (images.mean(), images.std());
        [a, b, c, d, e, f]
    };
    let mut bytes = [bytemuck::cast_slice(&header), pixels].concat();
    // WebGPU writes buffers in whole words.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
