//! The whole path from a photo's bytes to its [`Prediction`], with a checkpoint prepared on a device. The command
//! line and the page use all of it; the server, which batches photos, uses only [`PreparedPhoto`].

use crate::checkpoint::{Checkpoint, Metadata};
use crate::engine::{Device, EngineError, EngineOptions, FallbackEngine, Input, Logits, OnFallback, Output};
use crate::explain::{ClassifierWeights, Explanation};
use crate::plan::Tap;
use crate::prediction::{ModelId, Prediction, Timing, top_k_indices};
use crate::preprocess::{CroppedDecode, ImageBatch, Limits, Photo, PhotoError, Region};
use web_time::Instant;

/// A model that is ready to classify photos.
///
/// ```
/// use model::architecture::{Architecture, Stem};
/// use model::classifier::{Classifier, PreparedPhoto};
/// use model::engine::{Device, EngineOptions};
/// use model::prediction::ModelId;
/// use model::preprocess::Preprocessing;
/// use model::random;
///
/// # pollster::block_on(async {
/// let architecture = Architecture { stem: Stem::Small, ..Architecture::new("resnet18", 10)? };
/// let mut checkpoint = random::checkpoint(architecture);
/// let metadata = checkpoint.metadata().clone();
/// let small = Preprocessing { resize: 32, crop: 32, ..Preprocessing::default() };
/// checkpoint = checkpoint.with_metadata(model::checkpoint::Metadata { preprocessing: small, ..metadata })?;
///
/// let id = ModelId::from_bytes("random", &checkpoint.to_bytes());
/// let options = EngineOptions::default();
/// let classifier = Classifier::new(id, checkpoint, Device::Cpu, options, |_, _| {}).await?;
///
/// let photo = PreparedPhoto::from_rgba(40, 30, &[128; 40 * 30 * 4], classifier.metadata())?;
/// let prediction = classifier.classify(photo, 0.0, 5).await?;
/// assert_eq!(prediction.predictions.len(), 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Classifier {
    /// Name and version of the model, for predictions.
    id: ModelId,
    metadata: Metadata,
    engine: FallbackEngine,
}

/// A preprocessed photo, and the time that its preparation took.
#[derive(Clone, Debug)]
pub struct PreparedPhoto {
    /// A batch of one.
    pub image: ImageBatch,
    /// The part of the photo that the image shows.
    pub region: Region,
    /// Time of decoding, in milliseconds.
    pub decode_ms: f64,
    /// Time of resizing and cropping, in milliseconds.
    pub preprocess_ms: f64,
}

impl PreparedPhoto {
    /// Decodes and preprocesses an encoded photo.
    ///
    /// # Errors
    /// Returns an error if the photo exceeds `limits`, has an unsupported format, or cannot be decoded.
    pub fn from_bytes(bytes: &[u8], limits: &Limits, metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let decoded = CroppedDecode::decode(bytes, limits, &metadata.preprocessing)?;
        Ok(Self::finish(start, decoded.region(), || decoded.resize()))
    }

    /// Preprocesses an upright u8 RGBA image, `[height, width, 4]`.
    ///
    /// # Errors
    /// Returns an error if the number of bytes does not match the size.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8], metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let photo = Photo::from_rgba(width, height, rgba)?;
        Ok(Self::finish(start, metadata.preprocessing.region(&photo), || metadata.preprocessing.apply(&photo)))
    }

    /// Preprocesses a photo whose decoding started at `start` and has just ended.
    fn finish(start: Instant, region: Region, preprocess: impl FnOnce() -> ImageBatch) -> Self {
        let decode_ms = milliseconds_since(start);
        let start = Instant::now();
        let image = preprocess();
        PreparedPhoto { image, region, decode_ms, preprocess_ms: milliseconds_since(start) }
    }
}

/// Wraps an image that needed no preparation; its region is the whole image.
impl From<ImageBatch> for PreparedPhoto {
    fn from(image: ImageBatch) -> Self {
        let region = Region::whole(&image);
        PreparedPhoto { image, region, decode_ms: 0.0, preprocess_ms: 0.0 }
    }
}

impl Classifier {
    /// Prepares a checkpoint on a device. Predictions state the name and version in `id`. `on_fallback` is called if
    /// the device fails and another one executes the run.
    ///
    /// # Errors
    /// Returns the errors of [`FallbackEngine::prepare`].
    pub async fn new(
        id: ModelId,
        checkpoint: Checkpoint,
        device: Device,
        options: EngineOptions,
        on_fallback: OnFallback,
    ) -> Result<Self, EngineError> {
        let metadata = checkpoint.metadata().clone();
        let engine = FallbackEngine::prepare(checkpoint, device, options, on_fallback).await?;
        Ok(Classifier { id, metadata, engine })
    }

    /// Creates a classifier from an engine that has been prepared from a checkpoint with this metadata.
    pub fn from_engine(id: &ModelId, metadata: &Metadata, engine: FallbackEngine) -> Self {
        Classifier { id: id.clone(), metadata: metadata.clone(), engine }
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn device(&self) -> Device {
        self.engine.engine().device()
    }

    /// Returns the name of the adapter, if the device has one; see [`Engine::adapter`](crate::engine::Engine::adapter).
    pub fn adapter(&self) -> Option<String> {
        self.engine.engine().adapter().map(str::to_owned)
    }

    /// Computes the logits of images.
    ///
    /// # Errors
    /// Returns the errors of [`Engine::run`](crate::engine::Engine::run).
    pub async fn logits(&self, input: &Input) -> Result<Logits, EngineError> {
        Ok(self.engine.run(input, &[]).await?.0.logits)
    }

    /// Classifies a preprocessed photo and returns the `k` most likely classes. `queue_ms` is the time that it has
    /// waited since it was prepared, in milliseconds.
    ///
    /// # Errors
    /// Returns the errors of [`Engine::run`](crate::engine::Engine::run).
    pub async fn classify(&self, prepared: PreparedPhoto, queue_ms: f64, k: usize) -> Result<Prediction, EngineError> {
        let (prediction, _) = self.run(prepared, queue_ms, k, &[]).await?;
        Ok(prediction)
    }

    /// Classifies like [`classify`](Self::classify), and computes the class activation map of the most likely class.
    /// The caller keeps the `weights`, so that they take memory only if explanations are needed.
    ///
    /// # Errors
    /// Returns the errors of [`Engine::run`](crate::engine::Engine::run).
    pub async fn explain(
        &self,
        prepared: PreparedPhoto,
        queue_ms: f64,
        k: usize,
        weights: &ClassifierWeights,
    ) -> Result<(Prediction, Explanation), EngineError> {
        let region = prepared.region;
        let (prediction, Output { logits, activations }) =
            self.run(prepared, queue_ms, k, &[ClassifierWeights::TAP]).await?;
        let most_likely = top_k_indices(logits.row(0), 1)[0];
        let map = weights.cam(&activations[0], 0, most_likely).relu_normalised();
        Ok((prediction, Explanation { map, region }))
    }

    async fn run(
        &self,
        prepared: PreparedPhoto,
        queue_ms: f64,
        k: usize,
        taps: &[Tap],
    ) -> Result<(Prediction, Output), EngineError> {
        let start = Instant::now();
        let PreparedPhoto { image, decode_ms: decode, preprocess_ms: preprocess, .. } = prepared;
        let (output, device) = self.engine.run(&Input::Pixels(image), taps).await?;
        let inference = milliseconds_since(start);
        let timing = Timing::new(decode, preprocess, queue_ms, inference);
        let prediction = Prediction::new(&self.id, &self.metadata, device, (&output.logits, 0), k, timing);
        Ok((prediction, output))
    }
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
