//! Colour operations with the arithmetic of Pillow.

use super::image::Image;

/// Blends two values as Pillow's `Image.blend`: `first` for a factor of 0, `second` for 1; other factors extrapolate.
pub fn blend(first: u8, second: u8, factor: f32) -> u8 {
    // The conversion to u8 saturates, as in Pillow.
    (f32::from(first) + factor * (f32::from(second) - f32::from(first))) as u8
}

/// Luma as in Pillow's mode `L`: ITU-R 601-2 in 16-bit fixed point.
pub fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// Pillow's `ImageEnhance.Color`.
pub fn saturation(image: Image, factor: f64) -> Image {
    let factor = factor as f32;
    image.map(|rgb| {
        let luma = luma(rgb);
        rgb.map(|value| blend(luma, value, factor))
    })
}

/// `torchvision.transforms.functional.adjust_hue`: rotates the hue by a fraction of the colour circle. Uses Pillow's
/// 8-bit HSV, which loses precision even for a rotation by 0.
pub fn hue(image: Image, fraction: f64) -> Image {
    let turn = (fraction * 255.0) as i32 as u8;
    image.map(|rgb| {
        let [hue, saturation, value] = to_hsv(rgb);
        from_hsv([hue.wrapping_add(turn), saturation, value])
    })
}

/// `rgb2hsv_row` of Pillow's `Convert.c`, with the same mix of f32 and f64.
fn to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = rgb;
    let (max, min) = (red.max(green).max(blue), red.min(green).min(blue));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max - min);
    let [r, g, b] = rgb.map(|value| f32::from(max - value) / range);
    let sixth = if red == max {
        b - g
    } else if green == max {
        (2.0 + f64::from(r) - f64::from(b)) as f32
    } else {
        (4.0 + f64::from(g) - f64::from(r)) as f32
    };
    // `fmod(turned, 1.0)` for `turned` below 2.
    let turned = f64::from(sixth) / 6.0 + 1.0;
    let hue = if turned >= 1.0 { turned - 1.0 } else { turned } as f32;
    let saturation = range / f32::from(max);
    let [hue, saturation] = [hue, saturation].map(|fraction| (f64::from(fraction) * 255.0) as u8);
    [hue, saturation, max]
}

/// `hsv2rgb` of Pillow's `Convert.c`, with the same mix of f32 and f64.
fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sixth = sixths as u8;
    let rest = (sixths - f64::from(sixth)) as f32;
    let fraction = (f64::from(saturation) / 255.0) as f32;
    let scaled_value = |factor: f64| round_half_up(f64::from(value) * factor);
    let p = scaled_value(1.0 - f64::from(fraction));
    let q = scaled_value(1.0 - f64::from(fraction * rest));
    let t = scaled_value(1.0 - f64::from(fraction) * (1.0 - f64::from(rest)));
    match sixth % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

/// Rounds a non-negative value to the nearest integer, halves up. `f64::round` is a function call on targets whose
/// baseline lacks the instruction.
fn round_half_up(value: f64) -> u8 {
    let floor = value as u8;
    floor + u8::from(value - f64::from(floor) >= 0.5)
}
