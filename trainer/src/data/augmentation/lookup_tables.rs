//! Operations with a lookup table per channel: those of Pillow's `ImageOps`, and those of `ImageEnhance` that blend
//! with a uniform image.

use super::colour::{blend, luma};
use super::image::Image;
use std::array::from_fn;

/// Output value for each value of a channel.
type Table = [u8; 256];

/// Pillow's `ImageEnhance.Brightness`.
pub fn brightness(image: Image, factor: f64) -> Image {
    let table = from_fn(|value| blend(0, value as u8, factor as f32));
    apply_tables(image, &[table; 3])
}

/// Pillow's `ImageEnhance.Contrast`.
pub fn contrast(image: Image, factor: f64) -> Image {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let sum: u64 = pixels.iter().map(|&rgb| u64::from(luma(rgb))).sum();
    let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
    let table = from_fn(|value| blend(mean, value as u8, factor as f32));
    apply_tables(image, &[table; 3])
}

/// Pillow's `ImageOps.posterize`.
pub fn posterize(image: Image, bits: u32) -> Image {
    let dropped_bits = (1u16 << (8 - bits)) - 1;
    apply_tables(image, &[from_fn(|value| value as u8 & !(dropped_bits as u8)); 3])
}

/// Pillow's `ImageOps.solarize`.
pub fn solarize(image: Image, threshold: f64) -> Image {
    let table = from_fn(|value| if (value as f64) < threshold { value as u8 } else { 255 - value as u8 });
    apply_tables(image, &[table; 3])
}

/// Pillow's `ImageOps.autocontrast`.
pub fn auto_contrast(image: Image) -> Image {
    let tables = histograms(&image).map(|histogram| {
        let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        if high <= low {
            return identity();
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // The conversion to u8 saturates, as in Pillow.
        from_fn(|value| (value as f64 * scale + offset) as u8)
    });
    apply_tables(image, &tables)
}

/// Pillow's `ImageOps.equalize`.
pub fn equalize(image: Image) -> Image {
    let tables = histograms(&image).map(|histogram| {
        let total: u64 = histogram.iter().sum();
        let last = histogram.iter().rfind(|&&count| count > 0).unwrap_or(&0);
        let step = (total - last) / 255;
        if step == 0 {
            return identity();
        }
        let mut below = step / 2;
        histogram.map(|count| {
            let value = (below / step).min(255) as u8;
            below += count;
            value
        })
    });
    apply_tables(image, &tables)
}

fn identity() -> Table {
    from_fn(|value| value as u8)
}

fn apply_tables(image: Image, [red, green, blue]: &[Table; 3]) -> Image {
    image.map(|[r, g, b]| [red[usize::from(r)], green[usize::from(g)], blue[usize::from(b)]])
}

/// Counts the occurrences of each value, per channel.
fn histograms(image: &Image) -> [[u64; 256]; 3] {
    let mut histograms = [[0; 256]; 3];
    for rgb in image.pixels.as_chunks::<3>().0 {
        for (histogram, &value) in histograms.iter_mut().zip(rgb) {
            histogram[usize::from(value)] += 1;
        }
    }
    histograms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_images_are_unchanged() {
        let image = Image { width: 30, height: 20, pixels: [7, 0, 255].repeat(30 * 20) };
        assert_eq!(auto_contrast(image.clone()), image);
        assert_eq!(equalize(image.clone()), image);
    }
}
