//! Augmentation operations after the crop.

use super::image::Image;
use super::{colour, geometry, lookup_tables, sharpness};

/// Operation with its parameter. Results are bit-identical to torchvision's on Pillow images, as tests verify for
/// Pillow 13 on x86-64. Pixels from outside the image are black.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AugmentationOp {
    Identity,
    /// Tangent of the angle; positive values move lower rows to the left.
    ShearX(f64),
    /// Tangent of the angle; positive values move right columns up.
    ShearY(f64),
    /// Shift to the right, in pixels.
    TranslateX(i32),
    /// Shift down, in pixels.
    TranslateY(i32),
    /// Counterclockwise rotation around the centre, in degrees.
    Rotate(f64),
    /// Factor: 0 gives black, 1 the image.
    Brightness(f64),
    /// Factor: 0 gives greyscale, 1 the image. `ColorJitter` calls this saturation.
    Color(f64),
    /// Factor: 0 gives the mean luma, 1 the image.
    Contrast(f64),
    /// Factor: 0 gives a smoothed image, 1 the image.
    Sharpness(f64),
    /// Number of bits kept per value, 1 to 8.
    Posterize(u32),
    /// Threshold from which values are inverted.
    Solarize(f64),
    AutoContrast,
    Equalize,
    /// Rotation of the hue, as a fraction of the colour circle, -0.5 to 0.5.
    Hue(f64),
}

/// Creates an operation from its parameter.
pub type OperationConstructor = fn(f64) -> AugmentationOp;

impl AugmentationOp {
    /// Applies the operation to an image.
    pub fn apply(&self, image: Image) -> Image {
        use geometry::Affine;
        match *self {
            AugmentationOp::Identity => image,
            AugmentationOp::ShearX(tangent) => Affine::shear_x(tangent).apply(&image),
            AugmentationOp::ShearY(tangent) => Affine::shear_y(tangent).apply(&image),
            AugmentationOp::TranslateX(right) => image.shifted(-i64::from(right), 0, false),
            AugmentationOp::TranslateY(down) => image.shifted(0, -i64::from(down), false),
            AugmentationOp::Rotate(degrees) => Affine::rotate(degrees, &image).apply(&image),
            AugmentationOp::Brightness(factor) => lookup_tables::brightness(image, factor),
            AugmentationOp::Color(factor) => colour::saturation(image, factor),
            AugmentationOp::Contrast(factor) => lookup_tables::contrast(image, factor),
            AugmentationOp::Sharpness(factor) => sharpness::sharpness(image, factor),
            AugmentationOp::Posterize(bits) => lookup_tables::posterize(image, bits),
            AugmentationOp::Solarize(threshold) => lookup_tables::solarize(image, threshold),
            AugmentationOp::AutoContrast => lookup_tables::auto_contrast(image),
            AugmentationOp::Equalize => lookup_tables::equalize(image),
            AugmentationOp::Hue(fraction) => colour::hue(image, fraction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy;
    use super::*;
    use crate::recipe::AutoAugment;
    use serde::Deserialize;

    /// A case of `tests/golden/augmentation.py`.
    #[derive(Deserialize)]
    struct Case {
        input: String,
        size: [usize; 2],
        operation: String,
        magnitude: f64,
    }

    /// Computes an input image with the formula of the script.
    fn formula(name: &str, [width, height]: [usize; 2]) -> Image {
        let value = |x: usize, y: usize, c: usize| {
            let value = match (2 * y >= height, 2 * x >= width) {
                (false, false) => 9 * x + 5 * y * (c + 1),
                (false, true) => (((x * 7919) ^ (y * 104_729) ^ (c * 1_299_709)) * 31) >> 4,
                (true, false) => 11 * x + 3 * y,
                (true, true) => (((x / 4 + y / 4) >> c) & 1) * 255,
            } & 255;
            (if name == "dull" { value * 3 / 5 + 40 } else { value }) as u8
        };
        let pixels = (0..height * width * 3).map(|index| value(index / 3 % width, index / 3 / width, index % 3));
        Image { width, height, pixels: pixels.collect() }
    }

    #[test]
    fn operations_match_torchvision_on_pillow() {
        let cases = include_str!("../../../tests/golden/augmentation/operations.json");
        let mut outputs = include_bytes!("../../../tests/golden/augmentation/operations.bin").as_slice();
        for Case { input, size, operation, magnitude } in serde_json::from_str::<Vec<_>>(cases).unwrap() {
            let image = formula(&input, size);
            let expected = outputs.split_off(..image.pixels.len()).unwrap();
            let actual = match operation.as_str() {
                "adjust_brightness" => AugmentationOp::Brightness(magnitude).apply(image),
                "adjust_contrast" => AugmentationOp::Contrast(magnitude).apply(image),
                "adjust_saturation" => AugmentationOp::Color(magnitude).apply(image),
                "adjust_hue" => AugmentationOp::Hue(magnitude).apply(image),
                // `RandomCrop` with padding 4, at row 7 and column 1.
                "crop" => image.shifted(-3, 3, false),
                name => policy::named(AutoAugment::TrivialaugmentWide, name).with(magnitude).apply(image),
            };
            let differences: Vec<_> = actual.pixels.iter().zip(expected).filter(|(a, b)| a != b).collect();
            let max = differences.iter().map(|(a, b)| a.abs_diff(**b)).max();
            assert!(
                differences.is_empty(),
                "{operation} {magnitude} of {input}: {} values differ, by up to {max:?}",
                differences.len()
            );
        }
        assert!(outputs.is_empty());
    }
}
