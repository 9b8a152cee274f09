//! The CPU and WebGPU engines of the worker's model. One of them answers; the CPU engine takes over if WebGPU fails.

use crate::message::EngineChoice;
use crate::timeout::timeout;
use gloo_timers::future::TimeoutFuture;
use model::checkpoint::{Checkpoint, Metadata};
use model::classifier::{Classifier, PreparedPhoto};
use model::engine::{Device, Engine, EngineError, EngineOptions, FallbackEngine};
use model::explain::{ClassifierWeights, Explanation};
use model::prediction::{ModelId, Prediction};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use web_sys::console;
use web_time::Instant;

/// The device of [`EngineChoice::WebGpu`]. With the feature `burn-webgpu`, for comparisons, it is Burn's.
pub const WEBGPU: Device = if cfg!(feature = "burn-webgpu") { Device::Wgpu(0) } else { Device::WebGpu(0) };

/// Time limit for a driver to open its device.
pub const PREPARE_TIMEOUT_MS: u32 = 20_000;

/// Time limit for a run on WebGPU. The first run includes the compilation of all kernels.
pub const RUN_TIMEOUT_MS: u32 = 20_000;

/// Interval between checks for pending requests. Background work starts after a check that finds none.
const IDLE_MS: u32 = 30;

pub struct Engines {
    id: ModelId,
    metadata: Metadata,
    /// The weights of the final classifier, for explanations with either engine.
    class_weights: ClassifierWeights,
    /// The weights as stored, kept as long as another engine may have to be prepared. Weights in int8 take a quarter of
    /// the memory that they take in an engine.
    weights: RefCell<Option<Arc<Checkpoint>>>,
    /// The CPU engine, if it has been prepared.
    cpu: RefCell<Option<Rc<Classifier>>>,
    /// The WebGPU engine. If present, it answers all requests.
    webgpu: RefCell<Option<Rc<Classifier>>>,
    /// Number of requests that have not been answered yet.
    pending: Cell<usize>,
    /// Number of requests received so far.
    request_count: Cell<usize>,
}

/// An error in preparing or running an engine.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("device {WEBGPU} did not respond within {} s", PREPARE_TIMEOUT_MS / 1000)]
    Timeout,
    #[error("the model's weights have already been released")]
    WeightsReleased,
}

/// The outcome of preparing the WebGPU engine during the download of the weights.
pub type LoadedWebGpu = Result<(Engine, EngineOptions), EnginesError>;

/// Marks a request as pending until dropped.
pub struct RequestGuard(Rc<Engines>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get() - 1);
    }
}

impl Engines {
    /// Prepares the engine that answers first. `loaded` is the outcome of preparing the WebGPU engine during the
    /// download, or `None` if it was not prepared then.
    ///
    /// # Errors
    /// Returns an error if the CPU engine is needed and cannot be prepared.
    pub async fn prepare(
        choice: EngineChoice,
        id: ModelId,
        weights: Checkpoint,
        loaded: Option<LoadedWebGpu>,
    ) -> Result<Self, EnginesError> {
        let weights = Arc::new(weights);
        let webgpu = match choice {
            EngineChoice::Auto | EngineChoice::Cpu => None,
            EngineChoice::WebGpu => match recoverable_webgpu(&id, &weights, loaded).await {
                Ok(webgpu) => Some(webgpu),
                Err(error) => {
                    console::warn_1(&format!("WebGPU is not used: {error}").into());
                    None
                }
            },
        };
        let cpu = match webgpu {
            Some(_) => None,
            None => Some(open(&id, &weights, Device::Cpu, EngineOptions::default()).await?),
        };
        let engines = Engines {
            id,
            metadata: weights.metadata().clone(),
            class_weights: ClassifierWeights::from_checkpoint(&weights),
            weights: RefCell::new(Some(weights)),
            cpu: RefCell::new(cpu.map(Rc::new)),
            webgpu: RefCell::new(webgpu.map(Rc::new)),
            pending: Cell::default(),
            request_count: Cell::default(),
        };
        if choice != EngineChoice::Auto && engines.device() == Device::Cpu {
            engines.release_weights();
        }
        Ok(engines)
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the device that answers the next photo.
    pub fn device(&self) -> Device {
        self.webgpu.borrow().as_ref().map_or(Device::Cpu, |webgpu| webgpu.device())
    }

    /// Classifies a photo and, if `explain` is set, explains the answer. If WebGPU fails, the CPU engine answers this
    /// photo and all later ones.
    ///
    /// # Errors
    /// Returns an error if the CPU engine fails too.
    pub async fn classify(
        &self,
        prepared: PreparedPhoto,
        top_k: usize,
        explain: bool,
    ) -> Result<(Prediction, Option<Explanation>), EnginesError> {
        let start = Instant::now();
        let class_weights = explain.then_some(&self.class_weights);
        let webgpu = self.webgpu.borrow().clone();
        if let Some(webgpu) = webgpu {
            match timeout(RUN_TIMEOUT_MS, run(&webgpu, prepared.clone(), 0.0, top_k, class_weights)).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => self.disable_webgpu(&error.to_string()),
                None => self.disable_webgpu(&EnginesError::Timeout.to_string()),
            }
            self.cpu().await?;
            self.release_weights();
        }
        let cpu = self.cpu().await?;
        // The time of a failed attempt with WebGPU counts as waiting.
        let queue_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(run(&cpu, prepared, queue_ms, top_k, class_weights).await?)
    }

    /// Returns the CPU engine, after preparing it if necessary.
    pub async fn cpu(&self) -> Result<Rc<Classifier>, EnginesError> {
        let existing = self.cpu.borrow().clone();
        if let Some(cpu) = existing {
            return Ok(cpu);
        }
        let weights = self.weights()?;
        let cpu = Rc::new(open(&self.id, &weights, Device::Cpu, EngineOptions::default()).await?);
        self.cpu.replace(Some(cpu.clone()));
        Ok(cpu)
    }

    /// Prepares the WebGPU engine, but does not use it yet.
    ///
    /// # Errors
    /// Returns an error if the device cannot be opened in time, or if the weights have been released.
    pub async fn prepare_webgpu(&self, options: EngineOptions) -> Result<Classifier, EnginesError> {
        let weights = self.weights()?;
        open_webgpu(&self.id, &weights, options).await
    }

    fn weights(&self) -> Result<Arc<Checkpoint>, EnginesError> {
        self.weights.borrow().clone().ok_or(EnginesError::WeightsReleased)
    }

    /// Uses the WebGPU engine for all following requests.
    pub fn use_webgpu(&self, webgpu: Classifier) {
        self.webgpu.replace(Some(Rc::new(webgpu)));
    }

    /// Uses the CPU engine for all following requests. If several photos fail at the same time, only the first failure
    /// is logged.
    fn disable_webgpu(&self, error: &str) {
        if self.webgpu.take().is_some() {
            console::warn_1(&format!("WebGPU failed, switched to the CPU: {error}").into());
        }
    }

    /// Releases the stored weights. No further engine can be prepared afterwards.
    pub fn release_weights(&self) {
        self.weights.take();
    }

    /// Counts a request as pending until the returned guard is dropped.
    pub fn begin_request(self: &Rc<Self>) -> RequestGuard {
        self.pending.set(self.pending.get() + 1);
        self.request_count.set(self.request_count.get() + 1);
        RequestGuard(self.clone())
    }

    /// Returns the number of requests received so far.
    pub fn request_count(&self) -> usize {
        self.request_count.get()
    }

    /// Waits until no request is pending, but at least [`IDLE_MS`].
    pub async fn wait_idle(&self) {
        loop {
            TimeoutFuture::new(IDLE_MS).await;
            if self.pending.get() == 0 {
                return;
            }
        }
    }
}

/// Classifies a photo, and explains the answer if `class_weights` are given.
async fn run(
    classifier: &Classifier,
    prepared: PreparedPhoto,
    queue_ms: f64,
    top_k: usize,
    class_weights: Option<&ClassifierWeights>,
) -> Result<(Prediction, Option<Explanation>), EngineError> {
    let Some(class_weights) = class_weights else {
        return Ok((classifier.classify(prepared, queue_ms, top_k).await?, None));
    };
    let (prediction, explanation) = classifier.explain(prepared, queue_ms, top_k, class_weights).await?;
    Ok((prediction, Some(explanation)))
}

/// Returns the WebGPU engine for a page that selects it explicitly. If the engine was prepared during the download and
/// its device is lost, it is reopened once before the CPU takes over.
async fn recoverable_webgpu(
    id: &ModelId,
    weights: &Arc<Checkpoint>,
    loaded: Option<LoadedWebGpu>,
) -> Result<Classifier, EnginesError> {
    let Some(loaded) = loaded else { return open_webgpu(id, weights, EngineOptions::default()).await };
    let report = |error: &EngineError, device| console::warn_1(&format!("{error}; switched to {device}").into());
    let (engine, options) = loaded?;
    let engine = FallbackEngine::new(engine, Some(weights.clone()), options, report);
    Ok(Classifier::from_engine(id, weights.metadata(), engine))
}

/// Opens the WebGPU engine within [`PREPARE_TIMEOUT_MS`].
async fn open_webgpu(id: &ModelId, weights: &Checkpoint, options: EngineOptions) -> Result<Classifier, EnginesError> {
    timeout(PREPARE_TIMEOUT_MS, open(id, weights, WEBGPU, options)).await.unwrap_or(Err(EnginesError::Timeout))
}

/// Prepares the model on a device. The caller handles a loss of the device.
async fn open(
    id: &ModelId,
    weights: &Checkpoint,
    device: Device,
    options: EngineOptions,
) -> Result<Classifier, EnginesError> {
    let engine = Engine::prepare_from(weights, device, options).await?;
    Ok(Classifier::from_engine(id, weights.metadata(), FallbackEngine::without_fallback(engine)))
}
