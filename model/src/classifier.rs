//! A checkpoint prepared on a device, from a photo's bytes to its [`Prediction`]: what command line and page use whole,
//! and the server in its two halves.

use crate::checkpoint::{Checkpoint, Metadata};
use crate::engine::{Device, EnduringEngine, EngineError, EngineOptions, Input, Logits, Output, Report};
use crate::explain::{ClassWeights, Explanation};
use crate::plan::Tap;
use crate::prediction::{ModelId, Prediction, Timing, top_k};
use crate::preprocess::{Excerpt, ImageBatch, Limits, Photo, PhotoError, Region};
use web_time::Instant;

/// A model, ready to answer.
pub struct Classifier {
    /// What answers carry.
    id: ModelId,
    metadata: Metadata,
    engine: EnduringEngine,
}

/// A preprocessed photo with what that took.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// A batch of one.
    pub image: ImageBatch,
    /// What of the photo the image shows.
    pub region: Region,
    pub decode_ms: f64,
    pub preprocess_ms: f64,
}

impl Prepared {
    /// Decodes and preprocesses an encoded photo.
    pub fn from_bytes(bytes: &[u8], limits: &Limits, metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let excerpt = Excerpt::decode(bytes, limits, &metadata.preprocessing)?;
        Ok(Self::finish(start, excerpt.region(), || excerpt.resize()))
    }

    /// Preprocesses u8 RGBA `[height, width, 4]`, upright.
    pub fn from_rgba(width: u32, height: u32, rgba: &[u8], metadata: &Metadata) -> Result<Self, PhotoError> {
        let start = Instant::now();
        let photo = Photo::from_rgba(width, height, rgba)?;
        Ok(Self::finish(start, metadata.preprocessing.region(&photo), || metadata.preprocessing.apply(&photo)))
    }

    /// Of what began to be decoded at `start` and is decoded now.
    fn finish(start: Instant, region: Region, preprocess: impl FnOnce() -> ImageBatch) -> Self {
        let decode_ms = milliseconds_since(start);
        let start = Instant::now();
        let image = preprocess();
        Prepared { image, region, decode_ms, preprocess_ms: milliseconds_since(start) }
    }
}

/// An image that needed no preparation: it is all that there is of its photo.
impl From<ImageBatch> for Prepared {
    fn from(image: ImageBatch) -> Self {
        let region = Region::whole(&image);
        Prepared { image, region, decode_ms: 0.0, preprocess_ms: 0.0 }
    }
}

impl Classifier {
    /// Prepares a checkpoint on a device; `id` is what answers call the model, and `report` is told if the device is lost
    /// and another one answers.
    ///
    /// # Errors
    /// Those of [`EnduringEngine::prepare`].
    pub async fn new(
        id: ModelId,
        checkpoint: Checkpoint,
        device: Device,
        options: EngineOptions,
        report: Report,
    ) -> Result<Self, EngineError> {
        let metadata = checkpoint.metadata().clone();
        let engine = EnduringEngine::prepare(checkpoint, device, options, report).await?;
        Ok(Classifier { id, metadata, engine })
    }

    /// Of an engine that is prepared already, from the checkpoint of this description.
    pub fn of(id: &ModelId, metadata: &Metadata, engine: EnduringEngine) -> Self {
        Classifier { id: id.clone(), metadata: metadata.clone(), engine }
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
        let (prediction, _) = self.answer(prepared, queue_ms, k, &[]).await?;
        Ok(prediction)
    }

    /// The same, with what spoke for the likeliest class; only who explains has to keep the weights of classes.
    pub async fn explain(
        &self,
        prepared: Prepared,
        queue_ms: f64,
        k: usize,
        weights: &ClassWeights,
    ) -> Result<(Prediction, Explanation), EngineError> {
        let region = prepared.region;
        let (prediction, Output { logits, kept }) = self.answer(prepared, queue_ms, k, &[ClassWeights::TAP]).await?;
        let likeliest = top_k(&logits, 0, &self.metadata.labels, 1)[0].index;
        let map = weights.evidence(&kept[0], 0, likeliest).in_favour();
        Ok((prediction, Explanation { map, region }))
    }

    async fn answer(
        &self,
        prepared: Prepared,
        queue_ms: f64,
        k: usize,
        keep: &[Tap],
    ) -> Result<(Prediction, Output), EngineError> {
        let start = Instant::now();
        let Prepared { image, decode_ms: decode, preprocess_ms: preprocess, .. } = prepared;
        let (output, device) = self.engine.run(&Input::Pixels(image), keep).await?;
        let inference = milliseconds_since(start);
        let timing = Timing::new(decode, preprocess, queue_ms, inference);
        let prediction = Prediction::new(&self.id, &self.metadata, device, (&output.logits, 0), k, timing);
        Ok((prediction, output))
    }
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
