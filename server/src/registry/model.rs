//! A model that is served: a checkpoint as it was read once, with the engines that execute it. The file may change since.

use super::files::ModelFile;
use crate::batching::{Batcher, BatchingMetrics, BatchingOptions, Sizes};
use crate::content::Content;
use crate::settings::Settings;
use anyhow::{Result, ensure};
use bytes::Bytes;
use model::checkpoint::{self, Checkpoint};
use model::engine::{Device, EnduringEngine, EngineError, EngineOptions, Input};
use model::explain::ClassWeights;
use model::prediction::ModelId;
use model::preprocess::{ImageBatch, Preprocessing};
use std::fs::Metadata;
use std::io::Read;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Images of a batch on a GPU, if nobody says.
const MOST_ON_A_GPU: usize = 32;
/// Bytes of a checkpoint, of which the largest network has 508 MB in f32.
const LARGEST: u64 = 4 << 30;
/// Images of a batch for every so many threads on the CPU. The engine takes them one after the other, so that more would only
/// make the first wait for the last; these few save waking threads for each.
const IMAGES_OF_THREADS: usize = 4;
const THREADS: usize = 4;

pub struct Model {
    pub id: ModelId,
    pub metadata: Arc<checkpoint::Metadata>,
    /// The checkpoint, byte by byte.
    pub weights: Content,
    pub class_weights: ClassWeights,
    /// One for each engine.
    pub devices: Vec<Device>,
    pub batcher: Batcher,
    /// Of the file, before it was read.
    pub stamp: Option<Stamp>,
}

/// What tells that a file is another than before, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(u64, Option<SystemTime>);

/// How models are brought to which devices.
#[derive(Clone, Debug)]
pub struct Loader {
    /// One for each engine.
    devices: Vec<Device>,
    options: EngineOptions,
    /// If somebody has said.
    max_batch_size: Option<usize>,
    queue: usize,
    delay: Duration,
}

impl Loader {
    pub fn of(settings: &Settings) -> Self {
        let devices: Vec<Device> =
            settings.device.iter().flat_map(|&device| vec![device; settings.replicas.get()]).collect();
        // Engines on the CPU share the cores; each of them would take all.
        let engines = devices.iter().filter(|device| on_cpu(**device)).count().max(1);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = settings.threads.or(NonZero::new((cores / engines).max(1)));
        Loader {
            devices,
            options: EngineOptions { threads, precision: settings.precision, ..EngineOptions::default() },
            max_batch_size: settings.max_batch_size.map(NonZero::get),
            queue: settings.queue_size.get(),
            delay: settings.max_queue_delay,
        }
    }

    fn sizes(&self, device: Device) -> Sizes {
        let threads = self.options.threads.map_or(1, NonZero::get);
        let usual = if on_cpu(device) { IMAGES_OF_THREADS * threads.div_ceil(THREADS) } else { MOST_ON_A_GPU };
        Sizes::of(device, self.max_batch_size.unwrap_or(usual))
    }

    /// Reads and checks a checkpoint; its engines get ready behind. Errors do not tell where it lies, for a client may hear them.
    pub fn load(&self, file: &ModelFile, metrics: &BatchingMetrics) -> Result<Model> {
        let ModelFile { name, path } = file;
        let stamp = Stamp::of(path);
        let bytes = read(path)?;
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
        let sizes = self.devices.iter().map(|&device| self.sizes(device));
        let options = BatchingOptions { queue: self.queue, delay: self.delay };
        let batcher = Batcher::start(name, sizes.zip(prepare).collect(), options, metrics, example(&metadata)?)?;
        Ok(Model::new(name, metadata, bytes.into(), class_weights, self.devices.clone(), batcher).stamped(stamp))
    }
}

impl Model {
    pub fn new(
        name: &str,
        metadata: checkpoint::Metadata,
        bytes: Bytes,
        class_weights: ClassWeights,
        devices: Vec<Device>,
        batcher: Batcher,
    ) -> Self {
        let id = ModelId::of_bytes(name, &bytes);
        let weights = Content::immutable(bytes, "application/octet-stream", &id.version);
        Model { id, metadata: Arc::new(metadata), weights, class_weights, devices, batcher, stamp: None }
    }

    fn stamped(self, stamp: Option<Stamp>) -> Self {
        Model { stamp, ..self }
    }

    pub fn name(&self) -> &str {
        &self.id.name
    }
}

impl Stamp {
    /// `None` if there is no file.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some(Stamp(metadata.len(), metadata.modified().ok()))
    }
}

/// A file's bytes. A pipe, which might never give any, is none.
fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    ensure!(metadata.is_file(), "this is no file");
    ensure!(metadata.len() <= LARGEST, "{} bytes; at most {LARGEST} are read", metadata.len());
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    std::fs::File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn on_cpu(device: Device) -> bool {
    matches!(device, Device::Cpu | Device::Flex)
}

fn warn(error: &EngineError, device: Device) {
    tracing::warn!("{error}; {device} answers now");
}

/// A grey image, as the network of these metadata sees one.
fn example(metadata: &checkpoint::Metadata) -> Result<Input> {
    let Preprocessing { crop, mean, std, .. } = metadata.preprocessing;
    let side = crop as usize;
    Ok(Input::Pixels(ImageBatch::new(vec![128; side * side * 3], [1, side, side], mean, std)?))
}
