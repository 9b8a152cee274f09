//! Image type of the augmentation operations.

/// An RGB image. Samples are square, but operations support any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// u8 RGB `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Applies a function to every pixel.
    pub fn map(mut self, pixel: impl Fn([u8; 3]) -> [u8; 3]) -> Self {
        let (pixels, _) = self.pixels.as_chunks_mut::<3>();
        pixels.iter_mut().for_each(|rgb| *rgb = pixel(*rgb));
        self
    }

    /// Returns an image of the same size whose upper left corner is at column `left` and row `top` of this one; pixels
    /// outside are black. The result is flipped horizontally if `flipped`.
    pub fn shifted(&self, left: i64, top: i64, flipped: bool) -> Self {
        let Image { width, height, ref pixels } = *self;
        let (pixels, _) = pixels.as_chunks::<3>();
        let within = |index: i64, size: usize| usize::try_from(index).ok().filter(|&index| index < size);
        let mut shifted = Vec::with_capacity(width * height);
        for y in 0..height as i64 {
            let row = within(top + y, height);
            let pixel = |x: i64| row.zip(within(left + x, width)).map_or([0; 3], |(y, x)| pixels[y * width + x]);
            let columns = 0..width as i64;
            if flipped {
                shifted.extend(columns.rev().map(pixel));
            } else {
                shifted.extend(columns.map(pixel));
            }
        }
        Image { width, height, pixels: shifted.into_flattened() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_outside_the_image_are_black() {
        let image = Image { width: 4, height: 5, pixels: (0..5 * 4 * 3).collect() };
        assert_eq!(image.shifted(0, 0, false), image);
        let row = |from: u8| (from..from + 9).collect::<Vec<_>>();
        // Moves the contents down by two rows and left by one column.
        let moved = [vec![0; 24], row(3), vec![0; 3], row(15), vec![0; 3], row(27), vec![0; 3]].concat();
        assert_eq!(image.shifted(1, -2, false).pixels, moved);
        let mirrored = image.shifted(1, -2, true).pixels;
        let rows = mirrored.chunks(12).flat_map(|row| row.rchunks(3).flatten().copied());
        assert_eq!(rows.collect::<Vec<_>>(), moved);
    }
}
