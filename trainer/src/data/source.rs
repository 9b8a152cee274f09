//! A sample's way from its bytes to an image.

use super::loader::Skipped;
use super::{Augmentation, Draws, Item, Purpose, Sample};
use crate::photos::LIMITS;
use model::preprocess::{Encoded, Excerpt, ImageBatch, Preprocessing};
use std::sync::Arc;

/// Samples as they are looked at.
pub struct Source {
    pub samples: Arc<[Sample]>,
    /// What images are normalised by, how photos are resized, and to which size.
    pub preprocessing: Preprocessing,
    pub view: View,
}

/// What of a photo is looked at.
pub enum View {
    /// The middle, as in every answer.
    Middle,
    /// A part that is drawn anew for each sample and epoch.
    Drawn { augmentation: Augmentation, seed: u64, epoch: usize },
}

impl Source {
    /// A batch of one, `[1, crop, crop, 3]`.
    ///
    /// # Errors
    /// If the bytes cannot be read or decoded.
    pub fn load(&self, item: Item) -> Result<ImageBatch, Skipped> {
        let Sample { place, .. } = &self.samples[item.index];
        let skipped = |reason: String| Skipped { place: place.clone(), reason };
        let bytes = place.read().map_err(|failure| skipped(failure.error.message))?;
        match self.view {
            View::Middle => {
                let excerpt = Excerpt::decode(&bytes, &LIMITS, &self.preprocessing);
                Ok(excerpt.map_err(|error| skipped(error.to_string()))?.resize())
            }
            View::Drawn { augmentation, seed, epoch } => {
                let photo = Encoded::open(&bytes, &LIMITS).map_err(|error| skipped(error.to_string()))?;
                let preprocessing @ &Preprocessing { crop, mean, std, .. } = &self.preprocessing;
                let of = [epoch, item.index, item.repetition].map(|number| number as u64);
                let mut draws = Draws::new(seed, Purpose::Sample, &of);
                let changes = augmentation.draw(photo.size(), crop, &mut draws);
                let pixels = changes.apply(photo, preprocessing).map_err(|error| skipped(error.to_string()))?;
                let side = crop as usize;
                Ok(ImageBatch::new(pixels, [1, side, side], mean, std)
                    .expect("the part was resized to the crop's size"))
            }
        }
    }
}
