//! The input of the stem: normalised images with a zero border, three colours per pixel.

use super::super::Input;
use super::buffer::SharedMutSlice;
use super::thread_pool::ThreadPool;

/// Number of colours per pixel.
pub const COLOURS: usize = 3;

/// Shape of the input, `[batch, height + 2 * border, width + 2 * border, 3]`. The border is zero.
#[derive(Clone, Copy)]
pub struct PaddedImage {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub border: usize,
}

impl PaddedImage {
    /// Returns the distance from a row to the next, in values.
    pub fn row_stride(&self) -> usize {
        (self.width + 2 * self.border) * COLOURS
    }

    /// Returns the distance from an image to the next, in values.
    pub fn image_stride(&self) -> usize {
        (self.height + 2 * self.border) * self.row_stride()
    }

    /// Returns the number of f32 values in memory.
    pub fn len(&self) -> usize {
        self.batch * self.image_stride()
    }

    /// Writes the images of an input from number `first` on into `values`. Pixels are normalised like in torchvision:
    /// `(pixel / 255 - mean) / std`.
    pub fn write_input(&self, input: &Input, first: usize, values: &mut [f32], threads: &ThreadPool) {
        let tables = match input {
            Input::Pixels(images) => Some(normalisation_tables(images.mean(), images.std())),
            Input::Normalised(_) => None,
        };
        let (row_stride, edge, rows) = (self.row_stride(), self.border * COLOURS, self.height + 2 * self.border);
        let target = SharedMutSlice::new(&mut values[..self.len()]);
        threads.for_each(self.batch * rows, |index| {
            // SAFETY: there are `batch * rows` rows of `row_stride` values, and each task writes its own row.
            let row =
                unsafe { std::slice::from_raw_parts_mut(target.as_mut_ptr().add(index * row_stride), row_stride) };
            let (image, y) = (first + index / rows, index % rows);
            if y < self.border || y >= self.border + self.height {
                row.fill(0.0);
                return;
            }
            let y = y - self.border;
            row[..edge].fill(0.0);
            row[row_stride - edge..].fill(0.0);
            let pixels = row[edge..row_stride - edge].chunks_exact_mut(COLOURS);
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
                (Input::Pixels(_), None) => unreachable!("there are tables for pixels"),
            }
        });
    }
}

/// Returns the normalised value of each byte, `[colour][byte]`.
fn normalisation_tables(mean: [f32; COLOURS], std: [f32; COLOURS]) -> [[f32; 256]; COLOURS] {
    std::array::from_fn(|colour| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean[colour]) / std[colour]))
}
