//! The part of a report about an evaluation: predictions of a checkpoint, and everything that is derived from them.

use super::photos::ReportPhotos;
use crate::data::{DataLoader, LoaderThreads, Sample, SampleLocation};
use crate::evaluation::{Calibration, ClassSimilarity, EvaluationDetails, PhotoPrediction};
use anyhow::Result;
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, EngineOptions};
use pollster::block_on;
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Inputs of an evaluation: the photos, the device, and facts that the report shows.
pub struct EvaluationSource {
    /// File name of the checkpoint, or name of a bundled one.
    pub checkpoint_name: String,
    pub samples: Arc<[Sample]>,
    /// Folder of the photos.
    pub data: String,
    /// Command that repeats the evaluation.
    pub command: String,
    pub device: Device,
    pub options: EngineOptions,
    pub batch_size: usize,
    pub threads: LoaderThreads,
}

/// An evaluation with everything that is derived from it.
pub struct EvaluationReport {
    pub checkpoint: CheckpointSummary,
    /// Folder of the photos.
    pub data: String,
    /// Name of the device that computed the predictions.
    pub device: String,
    /// Duration of the evaluation.
    pub duration: Duration,
    /// Command that repeats the evaluation.
    pub command: String,
    /// Identifier of each class.
    pub classes: Vec<String>,
    /// Readable name of each class.
    pub labels: Vec<String>,
    pub details: EvaluationDetails,
    pub calibration: Calibration,
    /// Computed when it is first needed; it takes seconds for thousands of classes.
    pub(super) similarity: OnceCell<ClassSimilarity>,
    /// The samples, to which the predictions refer.
    pub samples: Arc<[Sample]>,
    /// `None` if photos are left out.
    pub photos: Option<ReportPhotos>,
}

/// The checkpoint of an evaluation.
pub struct CheckpointSummary {
    /// File name, or name of a bundled checkpoint.
    pub name: String,
    pub architecture: String,
    pub provenance: Option<String>,
    /// Width and height of the network's input, in pixels.
    pub side: u32,
    /// Temperature of a calibrated checkpoint.
    pub temperature: Option<f32>,
    /// Rejection threshold of a calibrated checkpoint.
    pub rejection_threshold: Option<f32>,
}

impl EvaluationReport {
    /// Evaluates a checkpoint. Photos are added if `with_photos` is set.
    ///
    /// # Errors
    /// Returns an error if the device fails, if no photo can be decoded, or if `should_stop` returns true.
    pub fn compute(
        checkpoint: &Checkpoint,
        source: EvaluationSource,
        with_photos: bool,
        should_stop: impl Fn() -> bool,
    ) -> Result<Self> {
        let start = Instant::now();
        let metadata = checkpoint.metadata();
        let EvaluationSource { checkpoint_name, samples, data, command, device, options, batch_size, threads } = source;
        let engine = block_on(Engine::prepare_from(checkpoint, device, options))?;
        let loader = DataLoader::for_evaluation(samples.clone(), &metadata.preprocessing, batch_size, threads);
        let details = EvaluationDetails::compute(&engine, loader, metadata, should_stop)?;
        let duration = start.elapsed();
        let photos = with_photos.then(|| ReportPhotos::new(&details, &samples, checkpoint, &engine)).transpose()?;
        Ok(EvaluationReport {
            checkpoint: CheckpointSummary {
                name: checkpoint_name,
                architecture: metadata.architecture.name(),
                provenance: metadata.provenance.clone(),
                side: metadata.preprocessing.crop,
                temperature: metadata.temperature,
                rejection_threshold: metadata.rejection_threshold,
            },
            data,
            device: device.to_string(),
            duration,
            command,
            classes: metadata.classes.clone(),
            labels: metadata.labels.clone(),
            calibration: Calibration::new(&details.predictions),
            similarity: OnceCell::new(),
            details,
            samples,
            photos,
        })
    }

    /// Returns the similarity of the classes, by which they are ordered.
    pub fn similarity(&self) -> &ClassSimilarity {
        self.similarity.get_or_init(|| ClassSimilarity::new(&self.details.confusion))
    }

    /// Returns the location of a photo.
    pub fn location(&self, prediction: &PhotoPrediction) -> &SampleLocation {
        &self.samples[prediction.sample].location
    }
}
