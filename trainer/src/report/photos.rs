//! Thumbnails of the photos in a report.

use crate::data::Sample;
use crate::evaluation::{ConfusedPair, EvaluationDetails, PhotoPrediction};
use crate::photos::LIMITS;
use crate::thumbnail::{image_to_jpeg, photo_to_jpeg};
use anyhow::Result;
use model::checkpoint::Checkpoint;
use model::engine::{Engine, Input};
use model::explain::{ClassifierWeights, overlay};
use model::preprocess::{ImageBatch, Photo, Preprocessing};
use pollster::block_on;

/// Number of errors that are shown.
const ERRORS: usize = 24;
/// Number of pairs of classes that are shown, and of photos of each.
const PAIRS: usize = 12;
const PHOTOS_PER_PAIR: usize = 6;
/// Width and height of a thumbnail, in pixels.
const SIDE: u32 = 160;

/// Photos of a report, as JPEG files.
pub struct ReportPhotos {
    /// The most confident errors.
    pub errors: Vec<ErrorPhoto>,
    /// The most confused pairs of classes.
    pub pairs: Vec<PairPhotos>,
}

/// A photo that was classified wrongly.
pub struct ErrorPhoto {
    pub prediction: PhotoPrediction,
    pub photo: Vec<u8>,
    /// The photo, on which the activation map of the predicted class is painted.
    pub predicted_map: Vec<u8>,
    /// The same for the correct class.
    pub class_map: Vec<u8>,
}

/// Photos of one class that were classified as another.
pub struct PairPhotos {
    pub pair: ConfusedPair,
    pub photos: Vec<(PhotoPrediction, Vec<u8>)>,
}

impl ReportPhotos {
    /// Decodes the photos, and computes the activation maps with the engine of the checkpoint.
    ///
    /// # Errors
    /// Returns an error if the device fails. Photos that can no longer be decoded are left out.
    pub fn new(
        details: &EvaluationDetails,
        samples: &[Sample],
        checkpoint: &Checkpoint,
        engine: &Engine,
    ) -> Result<Self> {
        let preprocessing = &checkpoint.metadata().preprocessing;
        let weights = ClassifierWeights::from_checkpoint(checkpoint);
        let mut errors = Vec::new();
        for prediction in details.most_confident_errors(ERRORS) {
            let Some(photo) = read(&samples[prediction.sample]) else { continue };
            let output = block_on(engine.run(&Input::Pixels(preprocessing.apply(&photo)), &[ClassifierWeights::TAP]))?;
            let thumbnail = thumbnail(&photo, preprocessing);
            let map = |class: usize| {
                photo_to_jpeg(&overlay(&thumbnail, &weights.cam(&output.activations[0], 0, class).relu_normalised()))
            };
            errors.push(ErrorPhoto {
                prediction: prediction.clone(),
                predicted_map: map(prediction.predicted()),
                class_map: map(prediction.class),
                photo: image_to_jpeg(&thumbnail),
            });
        }
        let pairs = details.confusion.most_confused(PAIRS).into_iter().map(|pair| {
            let photos = details
                .predictions
                .iter()
                .filter(|prediction| prediction.class == pair.actual && prediction.predicted() == pair.predicted);
            // The most confident errors first.
            let mut photos: Vec<_> = photos.collect();
            photos.sort_by(|a, b| b.confidence().total_cmp(&a.confidence()));
            let photos = photos.into_iter().filter_map(|prediction| {
                let photo = read(&samples[prediction.sample])?;
                Some((prediction.clone(), image_to_jpeg(&thumbnail(&photo, preprocessing))))
            });
            PairPhotos { pair, photos: photos.take(PHOTOS_PER_PAIR).collect() }
        });
        Ok(ReportPhotos { errors, pairs: pairs.collect() })
    }
}

fn read(sample: &Sample) -> Option<Photo> {
    Photo::decode(&sample.location.read().ok()?, &LIMITS).ok()
}

/// Returns the part of a photo that the network sees, as an image of [`SIDE`] pixels.
fn thumbnail(photo: &Photo, preprocessing: &Preprocessing) -> ImageBatch {
    let resize = (f64::from(preprocessing.resize) * f64::from(SIDE) / f64::from(preprocessing.crop)).round() as u32;
    // A tiny crop of a large image would need more pixels than preprocessing accepts.
    let resize = resize.min(Preprocessing::MAX_SIZE);
    Preprocessing { resize, crop: SIDE, ..preprocessing.clone() }.apply(photo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SampleLocation;
    use crate::evaluation::{ConfusionMatrix, Evaluation};
    use model::architecture::Architecture;
    use model::engine::Device;
    use model::plan::Plan;
    use model::preprocess::Limits;
    use model::random;

    #[test]
    fn photos_that_cannot_be_decoded_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| SampleLocation::File(folder.path().join(name));
        let photo = Photo::new(40, 30, (0..40 * 30 * 3).map(|value| (value % 251) as u8).collect()).unwrap();
        std::fs::write(folder.path().join("a.png"), photo.to_png()).unwrap();
        let samples = ["a.png", "missing.png"].map(|name| Sample { location: file(name), class: 0 });
        let prediction = |sample| PhotoPrediction {
            sample,
            class: 0,
            top: vec![(2, 0.9), (0, 0.1)],
            class_probability: 0.1,
            rank: 1,
            loss: 2.3,
        };
        let mut confusion = ConfusionMatrix::new(3);
        (0..2).for_each(|_| confusion.add(0, 2));
        let metrics = Evaluation { loss: 2.3, top1: 0.0, top5: 1.0, photos: 2, skipped: 0 };
        let predictions = vec![prediction(0), prediction(1)];
        let details = EvaluationDetails { metrics, confusion, predictions, skipped: Vec::new() };
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
        let engine = block_on(Engine::prepare(Plan::from(checkpoint.clone()), Device::Cpu)).unwrap();
        let photos = ReportPhotos::new(&details, &samples, &checkpoint, &engine).unwrap();
        assert_eq!((photos.errors.len(), photos.pairs.len(), photos.pairs[0].photos.len()), (1, 1, 1));
        let ErrorPhoto { photo, predicted_map, class_map, .. } = &photos.errors[0];
        for file in [photo, predicted_map, class_map, &photos.pairs[0].photos[0].1] {
            let decoded = Photo::decode(file, &Limits::default()).unwrap();
            assert_eq!((decoded.width(), decoded.height()), (SIDE, SIDE));
        }
        assert_ne!(photo, predicted_map);
    }
}
