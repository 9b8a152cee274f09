//! Conversion of any pixel layout to opaque u8 RGB: grey is replicated, alpha is composited over white, 16-bit samples
//! are scaled to 8 bits.
//!
//! Each output value is computed exactly and rounded once.

use image::{DynamicImage, RgbImage};

/// Converts an image with straight alpha. Layouts other than 8- and 16-bit grey and RGB use the conversion of `image`.
pub(super) fn from_image(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let rgb = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageRgba8(image) => from_rgba8(&image),
        DynamicImage::ImageLuma8(image) => pixels(&image, |&[grey]| [grey; 3]),
        DynamicImage::ImageLumaA8(image) => pixels(&image, |&[grey, alpha]| [over_white(grey, alpha); 3]),
        DynamicImage::ImageRgb16(image) => image.iter().map(|&sample| over_white16(sample, u16::MAX)).collect(),
        DynamicImage::ImageRgba16(image) => {
            pixels(&image, |&[r, g, b, alpha]| [r, g, b].map(|colour| over_white16(colour, alpha)))
        }
        DynamicImage::ImageLuma16(image) => pixels(&image, |&[grey]| [over_white16(grey, u16::MAX); 3]),
        DynamicImage::ImageLumaA16(image) => pixels(&image, |&[grey, alpha]| [over_white16(grey, alpha); 3]),
        other => return other.into_rgb8(),
    };
    RgbImage::from_raw(width, height, rgb).expect("each pixel has three samples")
}

/// Converts u8 RGBA with straight alpha to u8 RGB.
pub(super) fn from_rgba8(rgba: &[u8]) -> Vec<u8> {
    pixels(rgba, |&[r, g, b, alpha]| [r, g, b].map(|colour| over_white(colour, alpha)))
}

/// Converts each pixel of `N` samples with `rgb`.
fn pixels<S, const N: usize>(samples: &[S], rgb: impl Fn(&[S; N]) -> [u8; 3]) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks();
    let mut opaque = Vec::with_capacity(pixels.len() * 3);
    pixels.iter().for_each(|pixel| opaque.extend(rgb(pixel)));
    opaque
}

fn over_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

fn over_white16(colour: u16, alpha: u16) -> u8 {
    const WHITE: u64 = u16::MAX as u64;
    const SCALE: u64 = WHITE * WHITE / 255;
    let (colour, alpha) = (u64::from(colour), u64::from(alpha));
    ((colour * alpha + WHITE * (WHITE - alpha) + SCALE / 2) / SCALE) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma};

    #[test]
    fn alpha_compositing_rounds_to_nearest() {
        for colour in 0..=255u8 {
            for alpha in 0..=255u8 {
                let exact = (f64::from(colour) * f64::from(alpha) + 255.0 * (255.0 - f64::from(alpha))) / 255.0;
                assert_eq!(over_white(colour, alpha), exact.round() as u8, "{colour} at {alpha}");
                let wide = over_white16(u16::from(colour) * 257, u16::from(alpha) * 257);
                assert_eq!(wide, exact.round() as u8, "{colour} at {alpha}, 16 bit");
            }
        }
    }

    #[test]
    fn scaling_sixteen_bits_rounds_to_nearest() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let image = ImageBuffer::<Luma<u16>, _>::from_raw(256, 256, all).unwrap();
        let rgb = from_image(DynamicImage::ImageLuma16(image));
        for (value, pixel) in rgb.pixels().enumerate() {
            assert_eq!(pixel.0, [(value as f64 * 255.0 / 65535.0).round() as u8; 3], "{value}");
        }
    }
}
