//! A model that is served: a checkpoint as it was read once, with the engines that execute it. The file may change since.

use super::files::ModelFile;
use crate::batching::{Batcher, BatchingMetrics, BatchingOptions, Sizes};
use crate::content::Content;
use crate::settings::Settings;
use anyhow::Result;
use bytes::Bytes;
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::{Device, EnduringEngine, EngineError, EngineOptions, Input};
use model::explain::ClassWeights;
use model::prediction::ModelId;
use model::preprocess::{ImageBatch, Preprocessing};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

/// Images of a batch on a GPU, if nobody says.
const MOST_ON_A_GPU: usize = 32;
/// Threads that one image keeps busy on the CPU.
const THREADS_OF_AN_IMAGE: usize = 4;

pub struct Model {
    pub id: ModelId,
    pub metadata: Arc<Metadata>,
    /// The checkpoint, byte by byte.
    pub weights: Content,
    pub class_weights: ClassWeights,
    /// One for each engine.
    pub devices: Vec<Device>,
    pub batcher: Batcher,
}

/// How models are brought to which devices.
#[derive(Clone, Debug)]
pub struct Loader {
    /// One for each engine.
    devices: Vec<Device>,
    options: EngineOptions,
    max_batch_size: usize,
    queue: usize,
    delay: Duration,
}

impl Loader {
    pub fn of(settings: &Settings) -> Self {
        let devices: Vec<Device> =
            settings.device.iter().flat_map(|&device| vec![device; settings.replicas.get()]).collect();
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        // Engines share the cores; each of them would take all.
        let share = NonZero::new((cores / devices.len()).max(1));
        let threads = settings.threads.or(if devices.len() > 1 { share } else { None });
        let options = EngineOptions { threads, precision: settings.precision, ..EngineOptions::default() };
        let on_cpu = devices.iter().all(|device| matches!(device, Device::Cpu | Device::Flex));
        let usual =
            if on_cpu { threads.map_or(cores, NonZero::get).div_ceil(THREADS_OF_AN_IMAGE) } else { MOST_ON_A_GPU };
        Loader {
            devices,
            options,
            max_batch_size: settings.max_batch_size.map_or(usual, NonZero::get),
            queue: settings.queue_size.get(),
            delay: settings.max_queue_delay,
        }
    }

    /// Reads and checks a checkpoint; its engines get ready behind. Errors do not tell where it lies, for a client may hear them.
    pub fn load(&self, file: &ModelFile, metrics: &BatchingMetrics) -> Result<Model> {
        let ModelFile { name, path } = file;
        let bytes = std::fs::read(path)?;
        let checkpoint = Checkpoint::from_bytes(&bytes)?;
        if let Some(assumption) = checkpoint.assumption() {
            tracing::warn!("model {name:?}, {}: {assumption}", path.display());
        }
        let class_weights = ClassWeights::of(&checkpoint);
        let metadata = checkpoint.metadata().clone();
        let prepare = self.devices.iter().map(|&device| {
            let (name, checkpoint, options) = (name.clone(), checkpoint.clone(), self.options);
            move || {
                let engine = pollster::block_on(EnduringEngine::prepare(checkpoint, device, options, warn))?;
                if let Some(adapter) = engine.engine().adapter() {
                    tracing::info!("{name}: {device} is {adapter}");
                }
                Ok(engine)
            }
        });
        let sizes = Sizes::of(self.devices[0], self.max_batch_size);
        let options = BatchingOptions { queue: self.queue, delay: self.delay, sizes };
        let batcher = Batcher::start(name, prepare.collect(), options, metrics, example(&metadata)?)?;
        Ok(Model::new(name, metadata, bytes.into(), class_weights, self.devices.clone(), batcher))
    }
}

impl Model {
    pub fn new(
        name: &str,
        metadata: Metadata,
        bytes: Bytes,
        class_weights: ClassWeights,
        devices: Vec<Device>,
        batcher: Batcher,
    ) -> Self {
        let id = ModelId::of_bytes(name, &bytes);
        let weights = Content::immutable(bytes, "application/octet-stream", &id.version);
        Model { id, metadata: Arc::new(metadata), weights, class_weights, devices, batcher }
    }

    pub fn name(&self) -> &str {
        &self.id.name
    }
}

fn warn(error: &EngineError, device: Device) {
    tracing::warn!("{error}; {device} answers now");
}

/// A grey image, as the network of these metadata sees one.
fn example(metadata: &Metadata) -> Result<Input> {
    let Preprocessing { crop, mean, std, .. } = metadata.preprocessing;
    let side = crop as usize;
    Ok(Input::Pixels(ImageBatch::new(vec![128; side * side * 3], [1, side, side], mean, std)?))
}
