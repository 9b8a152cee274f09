//! The worker's two engines for its one model. One of them answers; the CPU's stands in whenever WebGPU's fails.

use crate::clock::within;
use crate::message::Engine;
use gloo_timers::future::TimeoutFuture;
use model::checkpoint::{Checkpoint, Metadata};
use model::classifier::{Classifier, Prepared};
use model::engine::{Device, EnduringEngine, EngineError, EngineOptions};
use model::explain::{ClassWeights, Explanation};
use model::prediction::{ModelId, Prediction};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use web_sys::console;
use web_time::Instant;

/// What [`Engine::WebGpu`] means: Burn's in a build that compares with it.
pub const WEBGPU: Device = if cfg!(feature = "burn-webgpu") { Device::Wgpu(0) } else { Device::WebGpu(0) };

/// A driver that has not opened its device by then is not waited for.
pub const PREPARATION_MS: u32 = 20_000;

/// A run on WebGPU, the first one with all its kernels to be compiled, that takes longer is given up.
pub const RUN_MS: u32 = 20_000;

/// How long it must have been quiet before anything is done that nobody waits for.
const QUIET_MS: u32 = 30;

pub struct Engines {
    /// The model's.
    id: ModelId,
    metadata: Metadata,
    /// What explanations take, whichever engine they are of.
    class_weights: ClassWeights,
    /// The model's weights as they are stored, as long as another engine may have to be prepared: in int8 a quarter of what
    /// they are in an engine.
    weights: RefCell<Option<Arc<Checkpoint>>>,
    cpu: RefCell<Option<Rc<Classifier>>>,
    /// Answers if it is there.
    webgpu: RefCell<Option<Rc<Classifier>>>,
    /// Requests without an answer yet.
    waiting: Cell<usize>,
    /// Requests so far.
    arrivals: Cell<usize>,
}

/// Why a model cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum PreparationError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the device {WEBGPU} had not done what was asked after {} s", PREPARATION_MS / 1000)]
    Late,
    #[error("the model's weights were given back")]
    NoWeights,
}

/// WebGPU's engine as it was made while the weights came, and how it computes.
pub type EarlyEngine = Result<(model::engine::Engine, EngineOptions), PreparationError>;

/// A request from its arrival to its answer.
pub struct Visit(Rc<Engines>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Engines {
    /// Prepares the one that answers first, unless that was done `early`.
    pub async fn prepare(
        engine: Engine,
        id: ModelId,
        weights: Checkpoint,
        early: Option<EarlyEngine>,
    ) -> Result<Self, PreparationError> {
        let weights = Arc::new(weights);
        let webgpu = match engine {
            Engine::Auto | Engine::Cpu => None,
            Engine::WebGpu => match asked_for(&id, &weights, early).await {
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
            class_weights: ClassWeights::of(&weights),
            weights: RefCell::new(Some(weights)),
            cpu: RefCell::new(cpu.map(Rc::new)),
            webgpu: RefCell::new(webgpu.map(Rc::new)),
            waiting: Cell::default(),
            arrivals: Cell::default(),
        };
        if engine != Engine::Auto && engines.device() == Device::Cpu {
            engines.settle();
        }
        Ok(engines)
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The device that answers the next photo.
    pub fn device(&self) -> Device {
        self.webgpu.borrow().as_ref().map_or(Device::Cpu, |webgpu| webgpu.device())
    }

    /// Classifies a photo and, on demand, explains the answer. If WebGPU fails, the CPU answers this photo and all that
    /// follow.
    ///
    /// # Errors
    /// If the CPU fails too.
    pub async fn classify(
        &self,
        prepared: Prepared,
        top_k: usize,
        explain: bool,
    ) -> Result<(Prediction, Option<Explanation>), PreparationError> {
        let start = Instant::now();
        let explained_by = explain.then_some(&self.class_weights);
        let webgpu = self.webgpu.borrow().clone();
        if let Some(webgpu) = webgpu {
            match within(RUN_MS, answer(&webgpu, prepared.clone(), 0.0, top_k, explained_by)).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => self.give_webgpu_up(&error.to_string()),
                None => self.give_webgpu_up(&PreparationError::Late.to_string()),
            }
            self.cpu().await?;
            self.settle();
        }
        let cpu = self.cpu().await?;
        let lost_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(answer(&cpu, prepared, lost_ms, top_k, explained_by).await?)
    }

    /// The CPU's, prepared if it is not yet.
    pub async fn cpu(&self) -> Result<Rc<Classifier>, PreparationError> {
        let ready = self.cpu.borrow().clone();
        if let Some(cpu) = ready {
            return Ok(cpu);
        }
        let weights = self.weights()?;
        let cpu = Rc::new(open(&self.id, &weights, Device::Cpu, EngineOptions::default()).await?);
        self.cpu.replace(Some(cpu.clone()));
        Ok(cpu)
    }

    /// WebGPU's, which answers nothing yet.
    pub async fn webgpu(&self, options: EngineOptions) -> Result<Classifier, PreparationError> {
        let weights = self.weights()?;
        open_webgpu(&self.id, &weights, options).await
    }

    fn weights(&self) -> Result<Arc<Checkpoint>, PreparationError> {
        self.weights.borrow().clone().ok_or(PreparationError::NoWeights)
    }

    /// From the next photo on.
    pub fn answer_on_webgpu(&self, webgpu: Classifier) {
        self.webgpu.replace(Some(Rc::new(webgpu)));
    }

    /// Photos that were under way together fail together; the first of them says why.
    fn give_webgpu_up(&self, error: &str) {
        if self.webgpu.take().is_some() {
            console::warn_1(&format!("WebGPU is not used any more: {error}").into());
        }
    }

    /// No engine will be prepared any more.
    pub fn settle(&self) {
        self.weights.take();
    }

    /// Takes note of a request until what this returns is dropped.
    pub fn visit(self: &Rc<Self>) -> Visit {
        self.waiting.set(self.waiting.get() + 1);
        self.arrivals.set(self.arrivals.get() + 1);
        Visit(self.clone())
    }

    pub fn arrivals(&self) -> usize {
        self.arrivals.get()
    }

    /// Returns when no request waits.
    pub async fn quiet(&self) {
        loop {
            TimeoutFuture::new(QUIET_MS).await;
            if self.waiting.get() == 0 {
                return;
            }
        }
    }
}

async fn answer(
    classifier: &Classifier,
    prepared: Prepared,
    queue_ms: f64,
    top_k: usize,
    explained_by: Option<&ClassWeights>,
) -> Result<(Prediction, Option<Explanation>), EngineError> {
    let Some(weights) = explained_by else {
        return Ok((classifier.classify(prepared, queue_ms, top_k).await?, None));
    };
    let (prediction, explanation) = classifier.explain(prepared, queue_ms, top_k, weights).await?;
    Ok((prediction, Some(explanation)))
}

/// WebGPU's engine because it was asked for by name: a lost device is opened anew, before the CPU takes over.
async fn asked_for(
    id: &ModelId,
    weights: &Arc<Checkpoint>,
    early: Option<EarlyEngine>,
) -> Result<Classifier, PreparationError> {
    let Some(engine) = early else { return open_webgpu(id, weights, EngineOptions::default()).await };
    let report = |error: &EngineError, device| console::warn_1(&format!("{error}; {device} answers now").into());
    let (engine, options) = engine?;
    let engine = EnduringEngine::new(engine, Some(weights.clone()), options, report);
    Ok(Classifier::of(id, weights.metadata(), engine))
}

/// WebGPU's engine, if the driver makes one in time.
async fn open_webgpu(
    id: &ModelId,
    weights: &Checkpoint,
    options: EngineOptions,
) -> Result<Classifier, PreparationError> {
    within(PREPARATION_MS, open(id, weights, WEBGPU, options)).await.unwrap_or(Err(PreparationError::Late))
}

async fn open(
    id: &ModelId,
    weights: &Checkpoint,
    device: Device,
    options: EngineOptions,
) -> Result<Classifier, PreparationError> {
    let engine = model::engine::Engine::prepare_from(weights, device, options).await?;
    Ok(Classifier::of(id, weights.metadata(), EnduringEngine::alone(engine)))
}
