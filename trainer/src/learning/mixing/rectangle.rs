//! Rectangles of pixels, and tensor masks for them.

use burn::tensor::{Tensor, TensorData};
use std::ops::Range;

/// A rectangle of an image, in pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixelRect {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// Returns a mask `[batch, 1, height, width]` on the device of `images`: the weight of each rectangle inside it, 0
/// outside. It is computed as the product of a column and a row, so that little data is copied to the device.
pub fn mask(
    rects: impl Iterator<Item = Option<(PixelRect, f64)>>,
    [height, width]: [usize; 2],
    images: &Tensor<4>,
) -> Tensor<4> {
    let (mut rows, mut columns) = (Vec::new(), Vec::new());
    for rect in rects {
        let (PixelRect { rows: rect_rows, columns: rect_columns }, weight) =
            rect.unwrap_or((PixelRect { rows: 0..0, columns: 0..0 }, 0.0));
        rows.extend((0..height).map(|row| if rect_rows.contains(&row) { weight as f32 } else { 0.0 }));
        columns.extend((0..width).map(|column| f32::from(u8::from(rect_columns.contains(&column)))));
    }
    let batch = images.dims()[0];
    let rows = Tensor::from_data(TensorData::new(rows, [batch, 1, height, 1]), &images.device());
    let columns = Tensor::<4>::from_data(TensorData::new(columns, [batch, 1, 1, width]), &images.device());
    rows * columns
}
