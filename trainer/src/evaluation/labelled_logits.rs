//! The logits of labelled photos, for computations that need them more than once.

use super::predictions::PhotoPrediction;
use model::checkpoint::Metadata;

/// Logits of photos with their correct classes, in memory: 200 MB for 50,000 photos and 1000 classes.
pub struct LabelledLogits {
    classes: usize,
    /// Logits, `[photos, classes]`.
    values: Vec<f32>,
    /// Index of the sample and correct class of each photo.
    photos: Vec<(usize, usize)>,
}

impl LabelledLogits {
    /// Creates an empty table for a network with this number of classes.
    pub fn new(classes: usize) -> Self {
        LabelledLogits { classes, values: Vec::new(), photos: Vec::new() }
    }

    /// Adds a photo with its logits, `[classes]`, and its correct class.
    pub fn push(&mut self, sample: usize, logits: &[f32], class: usize) {
        self.values.extend_from_slice(logits);
        self.photos.push((sample, class));
    }

    /// Returns the number of photos.
    pub fn len(&self) -> usize {
        self.photos.len()
    }

    /// Returns the logits and the correct class of each photo.
    pub fn rows(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.values.chunks_exact(self.classes).zip(&self.photos).map(|(logits, &(_, class))| (logits, class))
    }

    /// Returns the predictions of the model with this metadata, in the order of the photos.
    pub fn predictions(&self, metadata: &Metadata) -> Vec<PhotoPrediction> {
        let prediction = |((logits, class), &(sample, _)): ((&[f32], usize), &(usize, usize))| {
            PhotoPrediction::new(metadata, sample, logits, class)
        };
        self.rows().zip(&self.photos).map(prediction).collect()
    }
}
