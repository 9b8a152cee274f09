//! Augmentation of single samples: crop and flip, then colour jitter, then an automatic policy, in the order of
//! torchvision's reference scripts. All operations match those of torchvision on Pillow images.
//!
//! Drawing parameters is separate from applying them, so that tests can compare operations with torchvision for fixed
//! parameters.

mod colour;
mod crop;
mod geometry;
mod image;
mod jitter;
mod lookup_tables;
mod operation;
mod policy;
mod sharpness;

use super::CounterRng;
use crate::recipe::{AutoAugment, Recipe};
use crop::{CropParams, RandomCrop};
use image::Image;
use jitter::ColorJitter;
use model::preprocess::{Photo, Preprocessing, Rectangle};
use operation::AugmentationOp;

/// Configuration of the augmentation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    crop: RandomCrop,
    /// Probability of a horizontal flip.
    flip: f64,
    jitter: Option<ColorJitter>,
    policy: Option<AutoAugment>,
}

/// Parameters drawn for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentationParams {
    crop: CropParams,
    flipped: bool,
    /// Operations after the crop, in order of application; empty for most recipes.
    operations: Vec<AugmentationOp>,
}

impl Augmentation {
    pub fn new(recipe: &Recipe) -> Self {
        let crop = match recipe.crop_padding {
            Some(padding) => RandomCrop::Padded { padding },
            None => RandomCrop::Resized {
                scale: recipe.crop_scale.unwrap_or([1.0; 2]),
                ratio: recipe.crop_ratio.unwrap_or([1.0; 2]),
            },
        };
        Augmentation {
            crop,
            flip: recipe.flip,
            jitter: recipe.color_jitter.map(ColorJitter),
            policy: recipe.auto_augment,
        }
    }

    /// Draws parameters for a photo of `size` (width, height) that becomes an image of `side` by `side` pixels.
    pub fn draw(&self, size: (u32, u32), side: u32, rng: &mut CounterRng) -> AugmentationParams {
        let crop = self.crop.draw(size, rng);
        let flipped = rng.next_f64() < self.flip;
        let mut operations = Vec::new();
        if let Some(jitter) = self.jitter {
            operations.extend(jitter.draw(rng));
        }
        if let Some(policy) = self.policy {
            operations.extend(policy::draw(policy, side, rng));
        }
        AugmentationParams { crop, flipped, operations }
    }
}

impl AugmentationParams {
    /// Returns the region that must be decoded of a photo of `size` (width, height).
    pub fn source_region(&self, size: (u32, u32)) -> Rectangle {
        self.crop.source_region(size)
    }

    /// Applies the augmentation to a photo in which the region of [`AugmentationParams::source_region`] is at `region`.
    /// Returns u8 RGB `[crop, crop, 3]`.
    pub fn apply(&self, photo: &Photo, region: Rectangle, preprocessing: &Preprocessing) -> Vec<u8> {
        let pixels = self.crop.apply(photo, region, preprocessing, self.flipped);
        let side = preprocessing.crop as usize;
        let cropped = Image { width: side, height: side, pixels };
        self.operations.iter().fold(cropped, |image, operation| operation.apply(image)).pixels
    }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;

    fn draw(changes: &[&str], index: u64) -> AugmentationParams {
        let augmentation = Augmentation::new(&Recipe::finetune_with(changes));
        augmentation.draw((500, 375), 224, &mut CounterRng::new(2, Purpose::Sample, &[0, index, 0]))
    }

    #[test]
    fn drawing_is_deterministic() {
        let changes = ["color-jitter=[0.4, 0.4, 0.4, 0.1]", "auto-augment=randaugment"];
        let drawn: Vec<_> = (0..20).map(|index| draw(&changes, index)).collect();
        assert!(drawn.iter().all(|params| params.operations.len() == 6));
        assert_eq!(drawn, (0..20).map(|index| draw(&changes, index)).collect::<Vec<_>>());
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
    }

    /// Recipe keys that change colours must not change the crops of a seed.
    #[test]
    fn crops_do_not_depend_on_later_operations() {
        let (plain, policy) = (draw(&[], 3), draw(&["auto-augment=trivialaugment-wide"], 3));
        assert!(plain.operations.is_empty() && policy.operations.len() == 1);
        assert_eq!((plain.crop, plain.flipped), (policy.crop, policy.flipped));
    }

    #[test]
    fn half_of_the_samples_are_flipped() {
        let flipped = (0..2000).filter(|&index| draw(&[], index).flipped).count();
        assert!((900..1100).contains(&flipped), "{flipped} of 2000");
    }

    #[test]
    fn operations_are_applied_after_the_crop() {
        let photo = Photo::from_rgba(50, 40, &[200, 100, 20, 255].repeat(50 * 40)).unwrap();
        let preprocessing = Preprocessing { resize: 8, crop: 8, ..Preprocessing::default() };
        let mut params = draw(&["crop-padding=3", "crop-scale=", "crop-ratio="], 1);
        params.crop = CropParams::Shifted { left: 2, top: 0 };
        params.operations = vec![AugmentationOp::Solarize(150.0), AugmentationOp::Posterize(4)];
        params.flipped = true;
        let row = [[48, 96, 16].repeat(6), [0; 6].to_vec()].concat();
        let mirrored = [[0; 6].to_vec(), [48, 96, 16].repeat(6)].concat();
        assert_eq!(params.apply(&photo, params.source_region((50, 40)), &preprocessing), mirrored.repeat(8));
        params.flipped = false;
        assert_eq!(params.apply(&photo, params.source_region((50, 40)), &preprocessing), row.repeat(8));
    }
}
