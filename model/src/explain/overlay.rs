//! Overlays a class activation map on the image that it explains.

use super::ActivationMap;
use crate::preprocess::{ImageBatch, Photo};

/// Colour of the maximum of the map.
const COLOUR: [f32; 3] = [255.0, 64.0, 0.0];

/// Opacity of the overlay at the maximum of the map.
const OPACITY: f32 = 0.6;

/// Paints a map with values from 0 to 1 over the first image of a batch, at the size of the image.
pub fn overlay(image: &ImageBatch, map: &ActivationMap) -> Photo {
    let [_, height, width] = image.shape();
    let mut pixels = Vec::with_capacity(height * width * 3);
    for (index, pixel) in image.pixels().chunks_exact(3).take(height * width).enumerate() {
        let strength = OPACITY * sample(map, (index / width, height), (index % width, width));
        pixels.extend(pixel.iter().zip(COLOUR).map(|(&from, to)| {
            let from = f32::from(from);
            (from + (to - from) * strength).round() as u8
        }));
    }
    Photo::new(width as u32, height as u32, pixels).expect("the buffer has width * height pixels")
}

/// Interpolates the map bilinearly at a pixel of the image.
fn sample(map: &ActivationMap, (y, height): (usize, usize), (x, width): (usize, usize)) -> f32 {
    let (top, bottom, down) = neighbours(y, height, map.height);
    let (left, right, across) = neighbours(x, width, map.width);
    let value = |row: usize, column: usize| map.values[row * map.width + column];
    let mix = |a: f32, b: f32, weight: f32| a + (b - a) * weight;
    mix(mix(value(top, left), value(top, right), across), mix(value(bottom, left), value(bottom, right), across), down)
}

/// Returns the two cells of the map whose centres enclose a pixel along one axis, and the distance from the first
/// centre.
fn neighbours(pixel: usize, pixels: usize, cells: usize) -> (usize, usize, f32) {
    let position = ((pixel as f32 + 0.5) / pixels as f32 * cells as f32 - 0.5).clamp(0.0, (cells - 1) as f32);
    let first = position as usize;
    (first, (first + 1).min(cells - 1), position - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_coloured_by_their_activation() {
        let image = ImageBatch::new(vec![100; 8 * 8 * 3], [1, 8, 8], [0.0; 3], [1.0; 3]).unwrap();
        let map = ActivationMap { values: vec![1.0, 0.0, 0.0, 0.0], height: 2, width: 2 };
        let photo = overlay(&image, &map);
        let pixel = |x: usize, y: usize| &photo.pixels()[(y * 8 + x) * 3..][..3];
        assert_eq!((photo.width(), photo.height()), (8, 8));
        assert_eq!(pixel(0, 0), [193, 78, 40]);
        assert_eq!(pixel(7, 7), [100, 100, 100]);
        assert!(pixel(4, 0)[0] > 100 && pixel(4, 0)[0] < 193);
    }
}
