//! Pillow's `ImageEnhance.Sharpness`.

use super::colour::blend;
use super::image::Image;

/// Blends the image with its smoothed version; a factor of 1 returns the image unchanged.
pub fn sharpness(image: Image, factor: f64) -> Image {
    let factor = factor as f32;
    let mut sharp = smooth(&image);
    for (smooth, &value) in sharp.pixels.iter_mut().zip(&image.pixels) {
        *smooth = blend(*smooth, value, factor);
    }
    sharp
}

/// Pillow's `ImageFilter.SMOOTH`, which leaves the outermost pixels unchanged. Products are summed in f32 in the order
/// of `ImagingFilter3x3`: the row below first.
fn smooth(image: &Image) -> Image {
    const AROUND: f32 = 1.0 / 13.0;
    const MIDDLE: f32 = 5.0 / 13.0;
    let mut smooth = image.clone();
    let row = image.width * 3;
    if image.width < 3 || image.height < 3 {
        return smooth;
    }
    for y in 1..image.height - 1 {
        let [above, here, below] = [y - 1, y, y + 1].map(|y| &image.pixels[y * row..][..row]);
        let inside = &mut smooth.pixels[y * row..][3..row - 3];
        for (index, out) in inside.iter_mut().enumerate() {
            let row_sum = |row: &[u8], middle: f32| {
                let [a, b, c] = [0, 3, 6].map(|step| f32::from(row[index + step]));
                a * AROUND + b * middle + c * AROUND
            };
            *out = (0.5 + row_sum(below, AROUND) + row_sum(here, MIDDLE) + row_sum(above, AROUND)) as u8;
        }
    }
    smooth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_interior_are_unchanged() {
        for (width, height) in [(2, 5), (5, 2), (1, 1)] {
            let pixels = (0..width * height * 3).map(|index| index as u8).collect();
            let image = Image { width, height, pixels };
            assert_eq!(smooth(&image), image);
        }
    }
}
