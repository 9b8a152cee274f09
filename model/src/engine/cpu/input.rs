//! What enters the network, as the stem reads it: normalised, with its padding, three colours a pixel.

use super::super::Input;
use super::buffer::Target;
use super::threads::Threads;

pub const COLOURS: usize = 3;

/// `[batch, height + 2 * border, width + 2 * border, 3]`, the border zero.
#[derive(Clone, Copy)]
pub struct Image {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub border: usize,
}

impl Image {
    /// From a row to the next.
    pub fn pitch(&self) -> usize {
        (self.width + 2 * self.border) * COLOURS
    }

    /// From an image to the next.
    pub fn image(&self) -> usize {
        (self.height + 2 * self.border) * self.pitch()
    }

    pub fn len(&self) -> usize {
        self.batch * self.image()
    }

    /// Writes the images of an input from `first` on into `values`: `(pixel / 255 - mean) / std` as torchvision computes
    /// it, where it is not yet normalised.
    pub fn fill(&self, input: &Input, first: usize, values: &mut [f32], threads: &Threads) {
        let tables = match input {
            Input::Pixels(images) => Some(tables(images.mean(), images.std())),
            Input::Normalised(_) => None,
        };
        let (pitch, edge, rows) = (self.pitch(), self.border * COLOURS, self.height + 2 * self.border);
        let target = Target::new(&mut values[..self.len()]);
        threads.for_each(self.batch * rows, |index| {
            // SAFETY: each task has a row of its own.
            let row = unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(index * pitch), pitch) };
            let (image, y) = (first + index / rows, index % rows);
            if y < self.border || y >= self.border + self.height {
                row.fill(0.0);
                return;
            }
            let y = y - self.border;
            row[..edge].fill(0.0);
            row[pitch - edge..].fill(0.0);
            let pixels = row[edge..pitch - edge].chunks_exact_mut(COLOURS);
            match (input, &tables) {
                (Input::Pixels(images), Some(tables)) => {
                    let bytes = &images.pixels()[(image * self.height + y) * self.width * COLOURS..];
                    for (pixel, bytes) in pixels.zip(bytes.chunks_exact(COLOURS)) {
                        for ((value, &byte), table) in pixel.iter_mut().zip(bytes).zip(tables) {
                            *value = table[usize::from(byte)];
                        }
                    }
                }
                (Input::Normalised(images), _) => {
                    let plane = self.height * self.width;
                    let first = image * COLOURS * plane + y * self.width;
                    for (x, pixel) in pixels.enumerate() {
                        for (colour, value) in pixel.iter_mut().enumerate() {
                            *value = images.values()[first + colour * plane + x];
                        }
                    }
                }
                (Input::Pixels(_), None) => unreachable!("pixels have tables"),
            }
        });
    }
}

/// By colour and byte, the normalised value.
fn tables(mean: [f32; COLOURS], std: [f32; COLOURS]) -> [[f32; 256]; COLOURS] {
    std::array::from_fn(|colour| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean[colour]) / std[colour]))
}
