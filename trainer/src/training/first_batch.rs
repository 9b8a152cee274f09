//! The inputs of a run's first step as a picture, to check augmentation at a glance.

use crate::data::{DataLoader, Dataset, LoaderThreads, SampleLoader, SkippedSample, shuffled_batches, strided_part};
use crate::grid_layout::GridLayout;
use crate::learning::Mixing;
use crate::recipe::{Recipe, TrainedLayers};
use model::preprocess::{Photo, Preprocessing};

/// Maximum number of images and of columns.
const MAX_IMAGES: usize = 64;
const MAX_COLUMNS: usize = 8;
/// Maximum width of the grid, and distance between its images, in pixels.
const MAX_WIDTH: usize = 2048;
const GAP: usize = 2;

/// First images of the first batch of the first epoch, as the network gets them before normalisation: augmented and
/// mixed.
pub struct FirstBatch {
    /// Width and height of an image, in pixels.
    side: usize,
    /// Images, u8 RGB `[side, side, 3]`, and their targets.
    images: Vec<(Vec<u8>, Target)>,
    /// Files that could not be decoded.
    pub skipped: Vec<SkippedSample>,
}

/// The classes of an image, each with its share; `None` without a label. An image that is not mixed has one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Target(Vec<(Option<usize>, f64)>);

impl Target {
    /// Creates the target of an image from the classes of the images that it is blended from.
    fn new([(class, share), (other, other_share)]: [(Option<usize>, f64); 2]) -> Self {
        let is_visible = |share: f64| share >= 0.005;
        match (is_visible(share), is_visible(other_share)) {
            (true, true) if class != other => Target(vec![(class, share), (other, other_share)]),
            (false, _) => Target(vec![(other, 1.0)]),
            _ => Target(vec![(class, 1.0)]),
        }
    }

    /// Returns the names of the classes, such as `ants` or `ants 73 % + bees 27 %`.
    pub fn text(&self, classes: &[String]) -> String {
        let name = |class: Option<usize>| class.map_or("(no label)", |class| &classes[class]);
        match self.0.as_slice() {
            [(class, _)] => name(*class).to_owned(),
            shares => {
                let shares = shares.iter().map(|(class, share)| format!("{} {:.0} %", name(*class), 100.0 * share));
                shares.collect::<Vec<_>>().join(" + ")
            }
        }
    }
}

impl FirstBatch {
    /// Loads the batch of a run with this number of replicas. `preprocessing` is that of the evaluation. Erased
    /// rectangles have the mean colour.
    pub fn load(
        recipe: &Recipe,
        dataset: &Dataset,
        preprocessing: &Preprocessing,
        replicas: usize,
        threads: &LoaderThreads,
    ) -> Self {
        const EPOCH: usize = 1;
        let batch =
            shuffled_batches(dataset.training_count(), recipe.batch_size, recipe.repetitions, recipe.seed, EPOCH)
                .into_iter()
                .next()
                .unwrap_or_default();
        // Images are blended with others of the same part.
        let parts = replicas * recipe.accumulate;
        let mixing = Mixing::new(recipe, parts);
        let sample_loader = match recipe.layers {
            TrainedLayers::All => SampleLoader::for_training(dataset, recipe, preprocessing, EPOCH),
            TrainedLayers::Head => SampleLoader::for_evaluation(dataset.train.clone(), preprocessing),
        };
        let side = sample_loader.preprocessing.crop as usize;
        let batches = (0..parts.min(MAX_IMAGES)).map(|part| strided_part(&batch, part, parts)).collect();
        let (mut numbered, mut skipped) = (Vec::new(), Vec::new());
        for (part, batch) in DataLoader::new(sample_loader, batches, threads.clone()).enumerate() {
            skipped.extend(batch.skipped);
            let Some(images) = batch.images else { continue };
            let plan = mixing.map(|mixing| mixing.draw(recipe.seed, EPOCH, &batch.items, side)).unwrap_or_default();
            for index in 0..batch.classes.len().min(MAX_IMAGES.div_ceil(parts)) {
                let target = Target::new(plan.class_shares(&batch.classes, index));
                numbered.push((index * parts + part, (plan.mixed_image(&images, index), target)));
            }
        }
        // Restores the order of the batch.
        numbered.sort_by_key(|&(number, _)| number);
        let images = numbered.into_iter().take(MAX_IMAGES).map(|(_, image)| image).collect();
        FirstBatch { side, images, skipped }
    }

    /// Returns the images in a grid, in the order of the batch, row by row. They are made smaller if the grid would be
    /// wider than 2048 pixels. Returns `None` if no photo could be decoded.
    pub fn grid(&self) -> Option<Photo> {
        if self.images.is_empty() {
            return None;
        }
        let columns = self.columns();
        let side = self.side.min((MAX_WIDTH + GAP) / columns - GAP);
        let layout = GridLayout { columns, rows: self.images.len().div_ceil(columns), side, gap: GAP };
        Some(layout.paint(self.images.iter().map(|(image, _)| Some(self.resize(image, side)))))
    }

    /// Returns the targets of the images in each row of the grid.
    pub fn rows(&self) -> impl Iterator<Item = Vec<&Target>> {
        self.images.chunks(self.columns()).map(|row| row.iter().map(|(_, target)| target).collect())
    }

    /// Returns the number of columns that makes the grid as square as possible.
    fn columns(&self) -> usize {
        (1..MAX_COLUMNS).find(|columns| columns * columns >= self.images.len()).unwrap_or(MAX_COLUMNS)
    }

    /// Returns an image as u8 RGB `[side, side, 3]`.
    fn resize(&self, image: &[u8], side: usize) -> Vec<u8> {
        if side == self.side {
            return image.to_vec();
        }
        let layout = GridLayout { columns: 1, rows: 1, side: self.side, gap: 0 };
        let preprocessing = Preprocessing { resize: side as u32, crop: side as u32, ..Preprocessing::default() };
        preprocessing.apply(&layout.paint([Some(image.to_vec())])).pixels().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Sample, SampleLocation, UnlabelledPhotos, loader_threads};
    use std::path::Path;

    /// Creates photos whose red value is three times their index, which is also their class.
    fn dataset(folder: &Path, count: usize) -> Dataset {
        let sample = |index: usize| {
            let file = folder.join(format!("{index}.png"));
            let photo = Photo::from_rgba(40, 40, &[3 * index as u8, 0, 0, 255].repeat(1600)).unwrap();
            std::fs::write(&file, photo.to_png()).unwrap();
            Sample { location: SampleLocation::File(file), class: index }
        };
        let train: Vec<_> = (0..count).map(sample).collect();
        let unlabelled = UnlabelledPhotos::default();
        Dataset { classes: Vec::new(), train: train.into(), unlabelled, val: Vec::new().into(), cache: None }
    }

    fn load(dataset: &Dataset, keys: &[&str], replicas: usize, side: u32) -> FirstBatch {
        let recipe = Recipe::finetune_with(keys);
        let preprocessing = Preprocessing { resize: side, crop: side, ..Preprocessing::default() };
        FirstBatch::load(&recipe, dataset, &preprocessing, replicas, &loader_threads(None).unwrap())
    }

    /// Returns the red value of each image's first pixel.
    fn reds(batch: &FirstBatch) -> Vec<usize> {
        batch.images.iter().map(|(pixels, _)| usize::from(pixels[0])).collect()
    }

    #[test]
    fn images_have_the_order_of_the_batch_for_any_number_of_parts() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 30);
        let order: Vec<_> = shuffled_batches(30, 24, 1, 3, 1)[0].iter().map(|item| item.index).collect();
        for (replicas, accumulate) in [(1, "accumulate=1"), (2, "accumulate=3"), (4, "accumulate=1")] {
            let batch = load(&dataset, &["batch-size=24", "seed=3", accumulate], replicas, 32);
            assert_eq!(reds(&batch), order.iter().map(|index| 3 * index).collect::<Vec<_>>());
            let targets: Vec<_> = batch.rows().flatten().map(|target| target.0.clone()).collect();
            assert_eq!(targets, order.iter().map(|&class| vec![(Some(class), 1.0)]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn undecodable_files_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 8);
        for index in 0..8 {
            assert_eq!(load(&dataset, &["batch-size=8"], 1, 32).images.len(), 8 - index);
            std::fs::write(folder.path().join(format!("{index}.png")), "not a photo").unwrap();
        }
        let batch = load(&dataset, &["batch-size=8"], 1, 32);
        assert_eq!((batch.grid(), batch.skipped.len()), (None, 8));
    }

    /// A sample is blended with the preceding one of its part, which is `parts` before it in the batch.
    #[test]
    fn images_are_mixed_as_in_training() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 30);
        for parts in [1, 4] {
            let mixed = reds(&load(&dataset, &["batch-size=8", "mixup-alpha=1"], parts, 32));
            let plain = reds(&load(&dataset, &["batch-size=8"], parts, 32));
            assert_ne!(mixed, plain);
            for (index, &red) in mixed.iter().enumerate() {
                let other = plain[(index + 8 - parts) % 8];
                let (low, high) = (plain[index].min(other), plain[index].max(other));
                assert!((low..=high).contains(&red), "image {index}: {red} is not between {low} and {high}");
            }
        }
    }

    /// The red value of a photo is three times its class.
    #[test]
    fn targets_have_the_shares_of_the_mixed_images() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 30);
        for keys in [["batch-size=8", "mixup-alpha=1"], ["batch-size=8", "cutmix-alpha=1"]] {
            let batch = load(&dataset, &keys, 1, 32);
            assert!(batch.images.iter().any(|(_, target)| target.0.len() == 2));
            for (pixels, Target(shares)) in &batch.images {
                let mean = pixels.iter().step_by(3).map(|&red| f64::from(red)).sum::<f64>() / (32.0 * 32.0);
                let expected: f64 = shares.iter().map(|&(class, share)| 3.0 * class.unwrap() as f64 * share).sum();
                // Pixels are rounded, and shares below half a per cent are left out.
                assert!((mean - expected).abs() < 1.0, "{mean}, {shares:?}");
            }
        }
    }

    #[test]
    fn targets_name_both_classes_of_mixed_images() {
        let classes = ["ants", "bees"].map(str::to_owned);
        let text =
            |shares: [(usize, f64); 2]| Target::new(shares.map(|(class, share)| (Some(class), share))).text(&classes);
        assert_eq!(text([(0, 0.734), (1, 0.266)]), "ants 73 % + bees 27 %");
        assert_eq!(text([(0, 1.0), (1, 0.0)]), "ants");
        assert_eq!(text([(0, 0.001), (1, 0.999)]), "bees");
        assert_eq!(text([(1, 0.4), (1, 0.6)]), "bees");
    }

    #[test]
    fn grid_has_at_most_64_images_and_2048_columns_of_pixels() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(folder.path(), 70);
        for (batch, side, expected) in [
            ("batch-size=2", 64, (2 * 66 - 2, 64)),
            ("batch-size=24", 32, (5 * 34 - 2, 5 * 34 - 2)),
            ("batch-size=24", 500, (2048, 2048)),
            ("batch-size=70", 32, (8 * 34 - 2, 8 * 34 - 2)),
        ] {
            let grid = load(&dataset, &[batch, "layers=head"], 1, side).grid().unwrap();
            assert_eq!((grid.width(), grid.height()), expected, "{batch}, {side} px");
        }
    }
}
