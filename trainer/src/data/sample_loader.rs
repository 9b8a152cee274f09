//! A sample's way from its bytes to an image.

use super::{Augmentation, Cache, Draws, Item, Place, Purpose, Sample};
use crate::photos::LIMITS;
use model::preprocess::{Encoded, Excerpt, ImageBatch, Photo, Preprocessing, Rectangle};
use std::sync::Arc;

/// Samples as they are looked at.
pub struct Source {
    pub samples: Arc<[Sample]>,
    /// What images are normalised by, how photos are resized, and to which size.
    pub preprocessing: Preprocessing,
    pub view: View,
    /// Whole photos of these samples, for parts that are drawn.
    pub cache: Option<Arc<Cache>>,
}

/// What of a photo is looked at.
pub enum View {
    /// The middle, as in every answer.
    Middle,
    /// A part that is drawn anew for each sample and epoch.
    Drawn { augmentation: Augmentation, seed: u64, epoch: usize },
}

/// What is no photo, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    pub place: Place,
    pub reason: String,
}

impl Source {
    /// A batch of one, `[1, crop, crop, 3]`.
    ///
    /// # Errors
    /// If the bytes cannot be read or decoded.
    pub fn load(&self, item: Item) -> Result<ImageBatch, Skipped> {
        match self.view {
            View::Middle => {
                let bytes = self.read(item.index)?;
                let excerpt = Excerpt::decode(&bytes, &LIMITS, &self.preprocessing);
                Ok(excerpt.map_err(|error| self.skipped(item.index, error))?.resize())
            }
            View::Drawn { augmentation, seed, epoch } => {
                let preprocessing @ &Preprocessing { crop, mean, std, .. } = &self.preprocessing;
                let of = [epoch, item.index, item.repetition].map(|number| number as u64);
                let draw = |size| {
                    let changes = augmentation.draw(size, crop, &mut Draws::new(seed, Purpose::Sample, &of));
                    (changes.sees(size), changes)
                };
                let pixels =
                    self.with_part(item.index, draw, |photo, part, changes| changes.apply(photo, part, preprocessing))?;
                let side = crop as usize;
                Ok(ImageBatch::new(pixels, [1, side, side], mean, std)
                    .expect("the part was resized to the crop's size"))
            }
        }
    }

    /// Of a photo of some size, `draw` chooses a part; `look` gets at least that part of the photo, and where it lies in it.
    fn with_part<D, T>(
        &self,
        index: usize,
        draw: impl FnOnce((u32, u32)) -> (Rectangle, D),
        look: impl FnOnce(&Photo, Rectangle, D) -> T,
    ) -> Result<T, Skipped> {
        let size = |photo: &Photo| (photo.width(), photo.height());
        if let Some(photo) = self.cache.as_ref().and_then(|cache| cache.get(index)) {
            let (part, drawn) = draw(size(photo));
            return Ok(look(photo, part, drawn));
        }
        let bytes = self.read(index)?;
        let skipped = |error| self.skipped(index, error);
        if let Some(cache) = &self.cache {
            let photo = Photo::decode(&bytes, &LIMITS).map_err(skipped)?;
            let (part, drawn) = draw(size(&photo));
            return Ok(match cache.keep(index, photo) {
                Ok(photo) => look(photo, part, drawn),
                Err(photo) => look(&photo, part, drawn),
            });
        }
        let encoded = Encoded::open(&bytes, &LIMITS).map_err(skipped)?;
        let (part, drawn) = draw(encoded.size());
        let (photo, part) = encoded.decode_part(part).map_err(skipped)?;
        Ok(look(&photo, part, drawn))
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, Skipped> {
        self.samples[index].place.read().map_err(|failure| self.skipped(index, failure.error.message))
    }

    fn skipped(&self, index: usize, reason: impl ToString) -> Skipped {
        Skipped { place: self.samples[index].place.clone(), reason: reason.to_string() }
    }
}
