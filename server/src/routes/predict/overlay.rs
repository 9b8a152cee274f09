//! A class activation map laid over the image that it explains.

use model::explain::ActivationMap;
use model::preprocess::{ImageBatch, Photo};

/// What the strongest place is coloured in, and how much of it covers the photo.
const COLOUR: [f32; 3] = [255.0, 64.0, 0.0];
const OPACITY: f32 = 0.6;

/// A PNG of the first image, at its size.
pub fn png(image: &ImageBatch, map: &ActivationMap) -> Vec<u8> {
    let [_, height, width] = image.shape();
    let mut rgba = Vec::with_capacity(height * width * 4);
    for (index, pixel) in image.pixels().chunks_exact(3).take(height * width).enumerate() {
        let strength = OPACITY * at(map, (index / width, height), (index % width, width));
        rgba.extend(pixel.iter().zip(COLOUR).map(|(&from, to)| {
            let from = f32::from(from);
            (from + (to - from) * strength).round() as u8
        }));
        rgba.push(255);
    }
    let photo = Photo::from_rgba(width as u32, height as u32, &rgba).expect("an image has as many pixels as it says");
    photo.to_png()
}

/// The map at a pixel, between the middles of its places.
fn at(map: &ActivationMap, (y, height): (usize, usize), (x, width): (usize, usize)) -> f32 {
    let (top, bottom, down) = between(y, height, map.height);
    let (left, right, across) = between(x, width, map.width);
    let value = |row: usize, column: usize| map.values[row * map.width + column];
    let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
    mix(mix(value(top, left), value(top, right), across), mix(value(bottom, left), value(bottom, right), across), down)
}

/// The two places that a pixel lies between, and how far it is from the first.
fn between(pixel: usize, pixels: usize, places: usize) -> (usize, usize, f32) {
    let place = ((pixel as f32 + 0.5) / pixels as f32 * places as f32 - 0.5).clamp(0.0, (places - 1) as f32);
    let first = place as usize;
    (first, (first + 1).min(places - 1), place - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::preprocess::Limits;

    #[test]
    fn what_spoke_for_the_answer_is_coloured() {
        let image = ImageBatch::new(vec![100; 8 * 8 * 3], [1, 8, 8], [0.0; 3], [1.0; 3]).unwrap();
        let map = ActivationMap { values: vec![1.0, 0.0, 0.0, 0.0], height: 2, width: 2 };
        let photo = Photo::decode(&png(&image, &map), &Limits::default()).unwrap();
        let pixel = |x: usize, y: usize| &photo.pixels()[(y * 8 + x) * 3..][..3];
        assert_eq!((photo.width(), photo.height()), (8, 8));
        assert_eq!(pixel(0, 0), [193, 78, 40]);
        assert_eq!(pixel(7, 7), [100, 100, 100]);
        assert!(pixel(4, 0)[0] > 100 && pixel(4, 0)[0] < 193);
    }
}
