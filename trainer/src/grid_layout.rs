//! Arranges square images in a grid, as one picture.

use model::preprocess::Photo;

/// Size of a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridLayout {
    pub columns: usize,
    pub rows: usize,
    /// Width and height of an image, in pixels.
    pub side: usize,
    /// Distance between two images, in pixels.
    pub gap: usize,
}

impl GridLayout {
    /// Paints images, u8 RGB `[side, side, 3]`, on a white background, row by row from the top left. Cells without an
    /// image stay white.
    ///
    /// # Panics
    /// Panics if the grid has no cells, if an image has another size, or if there are more images than cells.
    pub fn paint(self, images: impl IntoIterator<Item = Option<Vec<u8>>>) -> Photo {
        let GridLayout { columns, rows, side, gap } = self;
        let length = |cells: usize| cells * (side + gap) - gap;
        let (width, height) = (length(columns), length(rows));
        let mut rgba = vec![255; width * height * 4];
        for (cell, image) in images.into_iter().enumerate().filter_map(|(cell, image)| Some((cell, image?))) {
            assert_eq!(image.len(), side * side * 3, "image {cell} has another size");
            let (top, left) = (cell / columns * (side + gap), cell % columns * (side + gap));
            for (row, from) in image.chunks_exact(side * 3).enumerate() {
                let to = &mut rgba[((top + row) * width + left) * 4..][..side * 4];
                for (to, from) in to.chunks_exact_mut(4).zip(from.chunks_exact(3)) {
                    to[..3].copy_from_slice(from);
                }
            }
        }
        Photo::from_rgba(width as u32, height as u32, &rgba).expect("the number of bytes matches the size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_painted_row_by_row_with_gaps() {
        let layout = GridLayout { columns: 2, rows: 2, side: 2, gap: 1 };
        let image = |value| Some(vec![value; 12]);
        let grid = layout.paint([image(1), None, image(3)]);
        assert_eq!((grid.width(), grid.height()), (5, 5));
        let red: Vec<u8> = grid.pixels().iter().copied().step_by(3).collect();
        let expected = [
            [1, 1, 255, 255, 255],
            [1, 1, 255, 255, 255],
            [255, 255, 255, 255, 255],
            [3, 3, 255, 255, 255],
            [3, 3, 255, 255, 255],
        ];
        assert_eq!(red, expected.concat());
    }
}
