//! A checkpoint prepared on a device, from a photo's bytes to its [`Prediction`]: what command line and page use whole,
//! and the server in its two halves.

use crate::checkpoint::{Checkpoint, Metadata};
use crate::engine::{Device, EnduringEngine, EngineError, EngineOptions, Input, Logits, Report};
use crate::prediction::{Prediction, Timing, top_k};
use crate::preprocess::{Excerpt, ImageBatch, Limits, Photo, PhotoError};
use web_time::Instant;

/// A model, ready to answer.
pub struct Classifier {
    /// The name that answers carry.
    name: String,
    metadata: Metadata,
    engine: EnduringEngine,
}

/// A preprocessed photo with what that took.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// A batch of one.
    pub image: ImageBatch,
    pub decode_ms: f64,
    pub preprocess_ms: f64,
}

impl Prepared {
    /// Decodes and preprocesses an encoded photo.
    pub fn from_bytes(bytes: &[u8], limits: &Limits, metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let excerpt = Excerpt::decode(bytes, limits, &metadata.preprocessing)?;
        Ok(Self::finish(start, || excerpt.resize()))
    }

    /// Preprocesses u8 RGBA `[height, width, 4]`, upright.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8], metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let photo = Photo::from_rgba(width, height, rgba)?;
        Ok(Self::finish(start, || metadata.preprocessing.apply(&photo)))
    }

    /// Of what began to be decoded at `start` and is decoded now.
    fn finish(start: Instant, preprocess: impl FnOnce() -> ImageBatch) -> Self {
        let decode_ms = milliseconds_since(start);
        let start = Instant::now();
        let image = preprocess();
        Prepared { image, decode_ms, preprocess_ms: milliseconds_since(start) }
    }
}

impl Classifier {
    /// Prepares a checkpoint on a device; `name` is what answers call the model, and `report` is told if the device is lost
    /// and another one answers.
    ///
    /// # Errors
    /// Those of [`EnduringEngine::prepare`].
    pub async fn new(
        name: &str,
        checkpoint: Checkpoint,
        device: Device,
        options: EngineOptions,
        report: Report,
    ) -> Result<Self, EngineError> {
        let metadata = checkpoint.metadata().clone();
        let engine = EnduringEngine::prepare(checkpoint, device, options, report).await?;
        Ok(Classifier { name: name.to_owned(), metadata, engine })
    }

    /// Of an engine that is prepared already.
    pub fn of(name: &str, metadata: Metadata, engine: EnduringEngine) -> Self {
        Classifier { name: name.to_owned(), metadata, engine }
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub fn device(&self) -> Device {
        self.engine.engine().device()
    }

    /// As [`Engine::adapter`].
    pub fn adapter(&self) -> Option<String> {
        self.engine.engine().adapter().map(str::to_owned)
    }

    /// What the network says of images, without a word about labels.
    ///
    /// # Errors
    /// Those of [`Engine::run`].
    pub async fn logits(&self, input: &Input) -> Result<Logits, EngineError> {
        Ok(self.engine.run(input, &[]).await?.0.logits)
    }

    /// Classifies one preprocessed photo; `queue_ms` is how long it waited since.
    pub async fn classify(&self, prepared: Prepared, queue_ms: f64, k: usize) -> Result<Prediction, EngineError> {
        let start = Instant::now();
        let Prepared { image, decode_ms: decode, preprocess_ms: preprocess } = prepared;
        let (output, device) = self.engine.run(&Input::Pixels(image), &[]).await?;
        let inference = milliseconds_since(start);
        Ok(Prediction {
            predictions: top_k(&output.logits, 0, &self.metadata.labels, k),
            model: self.name.clone(),
            architecture: self.metadata.architecture.name(),
            backend: device.to_string(),
            timing_ms: Timing {
                decode,
                preprocess,
                queue: queue_ms,
                inference,
                total: decode + preprocess + queue_ms + inference,
            },
        })
    }
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
