//! How a sample is changed before it becomes one of a batch: cropped and mirrored, then in its colours, then by a policy, in
//! the order of torchvision's references.
//!
//! What is drawn is plain data, apart from what is done with it, so that operations can be held against torchvision's with
//! fixed parameters. All of them are torchvision's on Pillow images.

mod colour;
mod crop;
mod geometry;
mod image;
mod jitter;
mod lookup_tables;
mod operation;
mod policy;
mod sharpness;

use super::Draws;
use crate::recipe::{AutoAugment, Recipe};
use crop::{Crop, Part};
use image::Image;
use jitter::Jitter;
use model::preprocess::{Photo, Preprocessing, Rectangle};
use operation::Operation;

/// What is drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    crop: Crop,
    /// How likely a sample is mirrored from left to right.
    flip: f64,
    jitter: Option<Jitter>,
    policy: Option<AutoAugment>,
}

/// What was drawn for a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    part: Part,
    flipped: bool,
    /// In their order; none in most recipes.
    operations: Vec<Operation>,
}

impl Augmentation {
    pub fn new(recipe: &Recipe) -> Self {
        let crop = match recipe.crop_padding {
            Some(padding) => Crop::Padded { padding },
            None => Crop::Resized {
                scale: recipe.crop_scale.unwrap_or([1.0; 2]),
                ratio: recipe.crop_ratio.unwrap_or([1.0; 2]),
            },
        };
        Augmentation { crop, flip: recipe.flip, jitter: recipe.color_jitter.map(Jitter), policy: recipe.auto_augment }
    }

    /// For a photo of `size`, width by height, of which a square of `side` pixels is made.
    pub fn draw(&self, size: (u32, u32), side: u32, draws: &mut Draws) -> Changes {
        let part = self.crop.draw(size, draws);
        let flipped = draws.unit() < self.flip;
        let mut operations = Vec::new();
        if let Some(jitter) = self.jitter {
            operations.extend(jitter.draw(draws));
        }
        if let Some(policy) = self.policy {
            operations.extend(policy::draw(policy, side, draws));
        }
        Changes { part, flipped, operations }
    }
}

impl Changes {
    /// What is to be decoded of a photo of `size`, width by height.
    pub fn sees(&self, size: (u32, u32)) -> Rectangle {
        self.part.of(size)
    }

    /// u8 RGB `[crop, crop, 3]` of a photo in which what [`Changes::sees`] lies at `seen`.
    pub fn apply(&self, photo: &Photo, seen: Rectangle, preprocessing: &Preprocessing) -> Vec<u8> {
        let pixels = self.part.pixels(photo, seen, preprocessing, self.flipped);
        let side = preprocessing.crop as usize;
        let whole = Image { width: side, height: side, pixels };
        self.operations.iter().fold(whole, |image, operation| operation.apply(image)).pixels
    }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;

    fn draw(changes: &[&str], index: u64) -> Changes {
        let augmentation = Augmentation::new(&Recipe::changed(changes));
        augmentation.draw((500, 375), 224, &mut Draws::new(2, Purpose::Sample, &[0, index, 0]))
    }

    #[test]
    fn equal_arguments_draw_equal_changes() {
        let changes = ["color-jitter=[0.4, 0.4, 0.4, 0.1]", "auto-augment=randaugment"];
        let drawn: Vec<_> = (0..20).map(|index| draw(&changes, index)).collect();
        assert!(drawn.iter().all(|changes| changes.operations.len() == 6));
        assert_eq!(drawn, (0..20).map(|index| draw(&changes, index)).collect::<Vec<_>>());
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
    }

    /// So that keys that change colours leave the crops of a seed alone.
    #[test]
    fn crops_do_not_depend_on_what_follows_them() {
        let (plain, policy) = (draw(&[], 3), draw(&["auto-augment=trivialaugment-wide"], 3));
        assert!(plain.operations.is_empty() && policy.operations.len() == 1);
        assert_eq!((plain.part, plain.flipped), (policy.part, policy.flipped));
    }

    #[test]
    fn half_of_the_samples_are_mirrored() {
        let flipped = (0..2000).filter(|&index| draw(&[], index).flipped).count();
        assert!((900..1100).contains(&flipped), "{flipped} of 2000");
    }

    #[test]
    fn operations_follow_the_crop() {
        let photo = Photo::from_rgba(50, 40, &[200, 100, 20, 255].repeat(50 * 40)).unwrap();
        let preprocessing = Preprocessing { resize: 8, crop: 8, ..Preprocessing::default() };
        let mut changes = draw(&["crop-padding=3", "crop-scale=", "crop-ratio="], 1);
        changes.part = Part::Shifted { left: 2, top: 0 };
        changes.operations = vec![Operation::Solarize(150.0), Operation::Posterize(4)];
        changes.flipped = true;
        let row = [[48, 96, 16].repeat(6), [0; 6].to_vec()].concat();
        let mirrored = [[0; 6].to_vec(), [48, 96, 16].repeat(6)].concat();
        assert_eq!(changes.apply(&photo, changes.sees((50, 40)), &preprocessing), mirrored.repeat(8));
        changes.flipped = false;
        assert_eq!(changes.apply(&photo, changes.sees((50, 40)), &preprocessing), row.repeat(8));
    }
}
