//! A served model: a checkpoint, read once, and the engines that run it. Later changes to the file do not affect it.

use super::sources::ModelSource;
use crate::batching::{BatchSizes, Batcher, BatchingMetrics, BatchingOptions};
use crate::settings::Settings;
use crate::static_asset::StaticAsset;
use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use checkpoints::CheckpointSource;
use model::checkpoint::{self, Checkpoint};
use model::engine::{Device, EngineError, EngineOptions, FallbackEngine, Input};
use model::explain::ClassifierWeights;
use model::prediction::ModelId;
use model::preprocess::{ImageBatch, Preprocessing};
use std::fs::Metadata;
use std::io::Read;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Default maximum batch size on a GPU.
const GPU_BATCH: usize = 32;
/// Maximum size of a checkpoint, in bytes. The largest network takes 508 MB in f32.
const MAX_CHECKPOINT: u64 = 4 << 30;
/// Default maximum batch size on the CPU: `CPU_BATCH` images per `CPU_BATCH_THREADS` threads or part of them. The CPU engine
/// processes images one after the other, so larger batches would only delay the first image; small batches wake the threads
/// once instead of once per image.
const CPU_BATCH: usize = 4;
const CPU_BATCH_THREADS: usize = 4;

pub struct Model {
    pub id: ModelId,
    pub metadata: Arc<checkpoint::Metadata>,
    /// The bytes of the checkpoint file.
    pub weights: StaticAsset,
    pub class_weights: ClassifierWeights,
    /// The device of each engine.
    pub devices: Vec<Device>,
    pub batcher: Batcher,
    /// Fingerprint of the checkpoint, taken before it was read.
    pub fingerprint: Option<Fingerprint>,
}

/// What the file system knows of a checkpoint, to detect changes without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    bytes: u64,
    modified: Option<SystemTime>,
    status: FileStatus,
}

/// Device, inode, and the time in seconds and nanoseconds at which the content or attributes of a file last changed.
/// Unlike the modification time, no program can set that time: `cp -p` and `rsync -t` change it too.
type FileStatus = (u64, u64, i64, i64);

/// Loads checkpoints and starts their engines.
#[derive(Clone, Debug)]
pub struct Loader {
    /// The device of each engine.
    devices: Vec<Device>,
    engine_options: EngineOptions,
    /// Value of `--max-batch-size`.
    max_batch_size: Option<usize>,
    batching_options: BatchingOptions,
}

impl Loader {
    pub fn new(settings: &Settings) -> Self {
        let devices: Vec<Device> =
            settings.device.iter().flat_map(|&device| vec![device; settings.replicas.get()]).collect();
        // Engines on the CPU share the cores; by default, each of them would use all.
        let engines = devices.iter().filter(|device| is_cpu(**device)).count().max(1);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = settings.threads.or(NonZero::new((cores / engines).max(1)));
        Loader {
            devices,
            engine_options: EngineOptions { threads, precision: settings.precision, ..EngineOptions::default() },
            max_batch_size: settings.max_batch_size.map(NonZero::get),
            batching_options: BatchingOptions {
                queue_size: settings.queue_size.get(),
                max_delay: settings.max_queue_delay,
            },
        }
    }

    fn batch_sizes(&self, device: Device) -> BatchSizes {
        let threads = self.engine_options.threads.map_or(1, NonZero::get);
        let default = if is_cpu(device) { CPU_BATCH * threads.div_ceil(CPU_BATCH_THREADS) } else { GPU_BATCH };
        BatchSizes::for_device(device, self.max_batch_size.unwrap_or(default))
    }

    /// Reads and validates a checkpoint, and starts its engines in the background.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be read or is invalid. The error does not contain the path, because it
    /// may be sent to a client.
    pub fn load(&self, source: &ModelSource, metrics: &BatchingMetrics) -> Result<Model> {
        let ModelSource { name, checkpoint: source } = source;
        let fingerprint = Fingerprint::of(source).ok();
        let bytes: Bytes = match source {
            CheckpointSource::File(path) => read(path)?.into(),
            CheckpointSource::Bundled(bundled) => Bytes::from_static(bundled.bytes()),
        };
        let checkpoint = Checkpoint::from_bytes(&bytes)?;
        if let Some(assumption) = checkpoint.assumption() {
            tracing::warn!("model {name:?}, {source}: {assumption}");
        }
        let class_weights = ClassifierWeights::from_checkpoint(&checkpoint);
        let metadata = checkpoint.metadata().clone();
        let prepare = self.devices.iter().map(|&device| {
            let (name, checkpoint, options) = (name.clone(), checkpoint.clone(), self.engine_options);
            move || {
                let engine =
                    pollster::block_on(FallbackEngine::prepare(checkpoint, device, options, warn_of_fallback))?;
                if let Some(adapter) = engine.engine().adapter() {
                    tracing::info!("model {name:?} runs on {device} ({adapter})");
                }
                Ok(engine)
            }
        });
        let sizes = self.devices.iter().map(|&device| self.batch_sizes(device));
        let engines = sizes.zip(prepare).collect();
        let batcher = Batcher::start(name, engines, self.batching_options, metrics, example(&metadata)?)?;
        let model = Model::new(name, metadata, bytes, class_weights, self.devices.clone(), batcher);
        Ok(Model { fingerprint, ..model })
    }
}

impl Model {
    pub fn new(
        name: &str,
        metadata: checkpoint::Metadata,
        bytes: Bytes,
        class_weights: ClassifierWeights,
        devices: Vec<Device>,
        batcher: Batcher,
    ) -> Self {
        let id = ModelId::from_bytes(name, &bytes);
        let weights = StaticAsset::immutable(bytes, "application/octet-stream", &id.version);
        Model { id, metadata: Arc::new(metadata), weights, class_weights, devices, batcher, fingerprint: None }
    }

    pub fn name(&self) -> &str {
        &self.id.name
    }
}

impl Fingerprint {
    /// Returns the fingerprint of a checkpoint.
    ///
    /// # Errors
    /// Returns an error if the path is not a regular file, or a symbolic link to one.
    pub fn of(source: &CheckpointSource) -> Result<Self> {
        Ok(match source {
            CheckpointSource::File(path) => {
                let metadata = regular_file(path)?;
                let (modified, status) = (metadata.modified().ok(), file_status(&metadata));
                Fingerprint { bytes: metadata.len(), modified, status }
            }
            CheckpointSource::Bundled(bundled) => {
                Fingerprint { bytes: bundled.bytes().len() as u64, modified: None, status: Default::default() }
            }
        })
    }
}

#[cfg(unix)]
fn file_status(metadata: &Metadata) -> FileStatus {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn file_status(_metadata: &Metadata) -> FileStatus {
    Default::default()
}

/// Returns the metadata of a regular file. The error does not contain the path.
fn regular_file(path: &Path) -> Result<Metadata> {
    let metadata = std::fs::metadata(path).map_err(|error| match path.symlink_metadata() {
        Ok(link) if link.is_symlink() => anyhow!("symbolic link to a file that cannot be read: {error}"),
        _ => error.into(),
    })?;
    ensure!(metadata.is_file(), "not a regular file");
    Ok(metadata)
}

/// Reads a regular file; reading from a pipe could block indefinitely.
fn read(path: &Path) -> Result<Vec<u8>> {
    let metadata = regular_file(path)?;
    ensure!(metadata.len() <= MAX_CHECKPOINT, "{} bytes exceed the maximum of {MAX_CHECKPOINT}", metadata.len());
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    std::fs::File::open(path)?.take(MAX_CHECKPOINT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_cpu(device: Device) -> bool {
    matches!(device, Device::Cpu | Device::Flex)
}

fn warn_of_fallback(error: &EngineError, device: Device) {
    tracing::warn!("{error}; falling back to {device}");
}

/// Returns a grey image of the network's input size.
fn example(metadata: &checkpoint::Metadata) -> Result<Input> {
    let Preprocessing { crop, mean, std, .. } = metadata.preprocessing;
    let side = crop as usize;
    Ok(Input::Pixels(ImageBatch::new(vec![128; side * side * 3], [1, side, side], mean, std)?))
}
