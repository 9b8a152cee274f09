//! Grids of images, to look at filters and feature maps: torchvision's `make_grid(images, nrow=8, padding=2,
//! normalize=True)`, with or without `scale_each=True`, as `save_image` encodes it.
//!
//! Results equal those of torchvision 0.29 bit for bit. Its options `value_range`, `pad_value` and other numbers of rows
//! and pixels of padding are not reproduced.

use crate::preprocess::Photo;

/// Number of images in a row of the grid, torchvision's `nrow`.
const COLUMNS: usize = 8;

/// Number of black pixels between images and around the grid, torchvision's `padding`.
const PADDING: usize = 2;

/// Smallest range of values that is scaled to black and white; torchvision avoids divisions by zero in this way.
const MIN_RANGE: f64 = 1e-5;

/// The values that are scaled to black and white together, from their minimum to their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// The values of each image, torchvision's `scale_each=True`.
    EachImage,
    /// The values of all images, torchvision's `scale_each=False`.
    AllImages,
}

/// Arranges images in rows of eight. `values` are f32 `[count, channels, height, width]`, with one channel for grey and
/// three for RGB. A single image has no padding, as in torchvision.
///
/// # Panics
/// Panics if there is no value, if the number of values does not match the shape, or if it has neither one nor three
/// channels.
pub fn image_grid(values: &[f32], shape: [usize; 4], scaling: Scaling) -> Photo {
    let [count, channels, height, width] = shape;
    assert!(
        !values.is_empty() && values.len() == shape.iter().product::<usize>(),
        "the number of values must match the shape"
    );
    assert!([1, 3].contains(&channels), "images must have one or three channels");
    let (columns, padding) = (count.min(COLUMNS), if count > 1 { PADDING } else { 0 });
    let [grid_width, grid_height] = grid_size(count, [height, width]);
    let mut pixels = vec![0; grid_width * grid_height * 3];
    let range_of_all = Range::of(values);
    for (index, image) in values.chunks_exact(channels * height * width).enumerate() {
        let range = if scaling == Scaling::AllImages { range_of_all } else { Range::of(image) };
        let left = padding + index % columns * (width + padding);
        let top = padding + index / columns * (height + padding);
        for (channel, plane) in image.chunks_exact(height * width).enumerate() {
            for (y, row) in plane.chunks_exact(width).enumerate() {
                let start = ((top + y) * grid_width + left) * 3;
                for (pixel, &value) in pixels[start..].chunks_exact_mut(3).zip(row) {
                    let level = range.level(value);
                    if channels == 1 { pixel.fill(level) } else { pixel[channel] = level }
                }
            }
        }
    }
    Photo::new(grid_width as u32, grid_height as u32, pixels).expect("the grid has three bytes per pixel")
}

/// Returns the width and the height of the grid of `count` images of a height and width, in pixels.
pub fn grid_size(count: usize, [height, width]: [usize; 2]) -> [usize; 2] {
    if count == 1 {
        return [width, height];
    }
    let columns = count.min(COLUMNS);
    [columns * (width + PADDING) + PADDING, count.div_ceil(columns) * (height + PADDING) + PADDING]
}

/// Minimum of some values, and the difference to their maximum.
#[derive(Clone, Copy)]
struct Range {
    minimum: f32,
    extent: f32,
}

impl Range {
    fn of(values: &[f32]) -> Self {
        let minimum = values.iter().copied().fold(f32::INFINITY, f32::min);
        let maximum = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // torchvision subtracts in double precision, because `low` and `high` are numbers in Python.
        let extent = (f64::from(maximum) - f64::from(minimum)).max(MIN_RANGE) as f32;
        Range { minimum, extent }
    }

    /// Returns the grey level of a value, in the single precision and with the rounding of `save_image`.
    fn level(self, value: f32) -> u8 {
        let scaled = (value - self.minimum) / self.extent;
        (scaled * 255.0 + 0.5).clamp(0.0, 255.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_images_are_black_and_others_use_all_levels() {
        let photo = image_grid(&[7.0, 7.0, -1.0, 3.0, 1.0, 1.0], [3, 1, 1, 2], Scaling::EachImage);
        assert_eq!((photo.width(), photo.height()), (14, 5));
        let grey = |x: usize| photo.pixels()[(2 * 14 + x) * 3];
        let row: Vec<u8> = (0..14).map(grey).collect();
        assert_eq!(row, [0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_single_image_has_no_padding() {
        let photo = image_grid(&[0.0, 0.5, 1.0, 0.25, 0.75, 0.0], [1, 3, 1, 2], Scaling::AllImages);
        assert_eq!((photo.width(), photo.height()), (2, 1));
        assert_eq!(photo.pixels(), [0, 255, 191, 128, 64, 0]);
    }
}
