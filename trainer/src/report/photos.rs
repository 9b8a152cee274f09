//! Thumbnails of the photos in a report.

use crate::data::Sample;
use crate::evaluation::{ConfusedPair, EvaluationDetails, PhotoPrediction};
use crate::photos::LIMITS;
use anyhow::Result;
use model::checkpoint::Checkpoint;
use model::engine::{Engine, Input};
use model::explain::{ActivationMap, ClassifierWeights};
use model::preprocess::{Photo, Preprocessing};
use pollster::block_on;

/// Number of errors that are shown.
const ERRORS: usize = 24;
/// Number of pairs of classes that are shown, and of photos of each.
const PAIRS: usize = 12;
const PHOTOS_PER_PAIR: usize = 6;
/// Width and height of a thumbnail, in pixels.
const SIDE: u32 = 160;
/// Quality of the JPEG files, as that of libjpeg.
const QUALITY: u8 = 80;

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
            let map = |class: usize| weights.cam(&output.activations[0], 0, class).relu_normalised();
            let thumbnail = thumbnail(&photo, preprocessing);
            errors.push(ErrorPhoto {
                prediction: prediction.clone(),
                predicted_map: jpeg(paint(&thumbnail, &map(prediction.predicted()))),
                class_map: jpeg(paint(&thumbnail, &map(prediction.class))),
                photo: jpeg(thumbnail),
            });
        }
        let pairs = details.confusion.most_confused(PAIRS).into_iter().map(|pair| {
            let photos = details
                .predictions
                .iter()
                .filter(|prediction| prediction.class == pair.actual && prediction.predicted() == pair.predicted);
            let photos = photos.filter_map(|prediction| {
                let photo = read(&samples[prediction.sample])?;
                Some((prediction.clone(), jpeg(thumbnail(&photo, preprocessing))))
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
fn thumbnail(photo: &Photo, preprocessing: &Preprocessing) -> Photo {
    let resize = (f64::from(preprocessing.resize) * f64::from(SIDE) / f64::from(preprocessing.crop)).round() as u32;
    let preprocessing = Preprocessing { resize, crop: SIDE, ..preprocessing.clone() };
    let image = preprocessing.apply(photo);
    Photo::new(SIDE, SIDE, image.pixels().to_vec()).expect("the image has three bytes per pixel")
}

/// Paints an activation map on a thumbnail: from transparent for 0 to an opaque orange for 1.
fn paint(photo: &Photo, map: &ActivationMap) -> Photo {
    const COLOUR: [f32; 3] = [255.0, 96.0, 0.0];
    const OPACITY: f32 = 0.7;
    let side = SIDE as usize;
    let mut pixels = photo.pixels().to_vec();
    for (at, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let value = OPACITY * interpolate(map, (at / side) as f32 / side as f32, (at % side) as f32 / side as f32);
        for (channel, colour) in pixel.iter_mut().zip(COLOUR) {
            *channel = (f32::from(*channel) * (1.0 - value) + colour * value).round() as u8;
        }
    }
    Photo::new(SIDE, SIDE, pixels).expect("the number of pixels is unchanged")
}

/// Returns the value of a map at a position from 0 to 1, interpolated between the centres of its cells.
fn interpolate(map: &ActivationMap, y: f32, x: f32) -> f32 {
    let cells = |position: f32, count: usize| {
        let position = (position * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
        let first = position as usize;
        (first, (first + 1).min(count - 1), position - first as f32)
    };
    let ((top, bottom, down), (left, right, across)) = (cells(y, map.height), cells(x, map.width));
    let row = |y: usize| {
        let value = |x: usize| map.values[y * map.width + x];
        value(left) * (1.0 - across) + value(right) * across
    };
    row(top) * (1.0 - down) + row(bottom) * down
}

fn jpeg(photo: Photo) -> Vec<u8> {
    photo.to_jpeg(QUALITY).expect("a thumbnail is small enough")
}
