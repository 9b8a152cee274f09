//! Loads a sample: reads, decodes and crops its photo, and augments it for training.

use super::{
    Augmentation, CounterRng, Dataset, EpochItem, PhotoCache, Purpose, Sample, SampleLocation, UnlabelledPhotos,
};
use crate::photos::LIMITS;
use crate::recipe::Recipe;
use model::preprocess::{CroppedDecode, ImageBatch, LazyImage, Photo, Preprocessing, Rectangle};
use serde::Serialize;
use std::sync::Arc;

/// Loads samples as images of one size.
pub struct SampleLoader {
    pub samples: Arc<[Sample]>,
    /// Photos without labels, whose indices follow those of `samples`.
    pub unlabelled: UnlabelledPhotos,
    /// Image size, resizing and normalisation.
    pub preprocessing: Preprocessing,
    pub transform: Transform,
    /// Cache of decoded photos, used by [`Transform::Train`].
    pub cache: Option<Arc<PhotoCache>>,
}

/// Transformation of a photo to an image of the network's input size.
pub enum Transform {
    /// Resize and centre crop, as for inference.
    Eval,
    /// Random crop and augmentation, different for each sample and epoch.
    Train { augmentation: Augmentation, seed: u64, epoch: usize },
}

/// A sample that could not be read or decoded, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SkippedSample {
    #[serde(rename = "file")]
    pub location: SampleLocation,
    pub reason: String,
}

impl SampleLoader {
    /// Creates a loader of the training photos of an epoch, counted from 1. `evaluation` is the preprocessing for
    /// validation and inference.
    pub fn for_training(dataset: &Dataset, recipe: &Recipe, evaluation: &Preprocessing, epoch: usize) -> Self {
        SampleLoader {
            samples: dataset.train.clone(),
            unlabelled: dataset.unlabelled.clone(),
            preprocessing: recipe.training_preprocessing(epoch, evaluation),
            transform: Transform::Train { augmentation: Augmentation::new(recipe), seed: recipe.seed, epoch },
            cache: dataset.cache.clone(),
        }
    }

    /// Creates a loader that preprocesses photos as for inference.
    pub fn for_evaluation(samples: Arc<[Sample]>, preprocessing: &Preprocessing) -> Self {
        SampleLoader {
            samples,
            unlabelled: UnlabelledPhotos::default(),
            preprocessing: preprocessing.clone(),
            transform: Transform::Eval,
            cache: None,
        }
    }

    /// Returns the class of the photo with this index, or `None` if it has no label.
    pub fn class(&self, index: usize) -> Option<usize> {
        self.samples.get(index).map(|sample| sample.class)
    }

    fn location(&self, index: usize) -> &SampleLocation {
        match self.samples.get(index) {
            Some(sample) => &sample.location,
            None => &self.unlabelled.locations()[index - self.samples.len()],
        }
    }

    /// Loads a sample as a batch of one image, `[1, crop, crop, 3]`.
    ///
    /// # Errors
    /// Returns an error if the photo cannot be read or decoded.
    pub fn load(&self, item: EpochItem) -> Result<ImageBatch, SkippedSample> {
        match self.transform {
            Transform::Eval => {
                let bytes = self.read(item.index)?;
                let decoded = CroppedDecode::decode(&bytes, &LIMITS, &self.preprocessing);
                Ok(decoded.map_err(|error| self.skipped(item.index, error))?.resize())
            }
            Transform::Train { augmentation, seed, epoch } => {
                let preprocessing @ &Preprocessing { crop, mean, std, .. } = &self.preprocessing;
                let indices = [epoch, item.index, item.repetition].map(|number| number as u64);
                let draw = |size| {
                    let params = augmentation.draw(size, crop, &mut CounterRng::new(seed, Purpose::Sample, &indices));
                    (params.source_region(size), params)
                };
                let pixels = self
                    .with_crop(item.index, draw, |photo, region, params| params.apply(photo, region, preprocessing))?;
                let side = crop as usize;
                Ok(ImageBatch::new(pixels, [1, side, side], mean, std)
                    .expect("the region is resized to the size of the crop"))
            }
        }
    }

    /// Decodes a photo and applies a crop to it. `draw` chooses a region for the size (width, height) of the photo;
    /// `apply` gets an image that contains at least this region, and the position of the region in that image.
    fn with_crop<D, T>(
        &self,
        index: usize,
        draw: impl FnOnce((u32, u32)) -> (Rectangle, D),
        apply: impl FnOnce(&Photo, Rectangle, D) -> T,
    ) -> Result<T, SkippedSample> {
        let size = |photo: &Photo| (photo.width(), photo.height());
        if let Some(photo) = self.cache.as_ref().and_then(|cache| cache.get(index)) {
            let (region, drawn) = draw(size(photo));
            return Ok(apply(photo, region, drawn));
        }
        let bytes = self.read(index)?;
        let skipped = |error| self.skipped(index, error);
        if let Some(cache) = &self.cache {
            let photo = Photo::decode(&bytes, &LIMITS).map_err(skipped)?;
            let (region, drawn) = draw(size(&photo));
            return Ok(match cache.insert(index, photo) {
                Ok(photo) => apply(photo, region, drawn),
                Err(photo) => apply(&photo, region, drawn),
            });
        }
        let encoded = LazyImage::open(&bytes, &LIMITS).map_err(skipped)?;
        let (region, drawn) = draw(encoded.size());
        let (photo, region) = encoded.decode_part(region).map_err(skipped)?;
        Ok(apply(&photo, region, drawn))
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, SkippedSample> {
        self.location(index).read().map_err(|failure| self.skipped(index, failure.error.message))
    }

    fn skipped(&self, index: usize, reason: impl ToString) -> SkippedSample {
        SkippedSample { location: self.location(index).clone(), reason: reason.to_string() }
    }
}
