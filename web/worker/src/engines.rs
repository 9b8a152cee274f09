//! The worker's two engines for its one model. One of them answers; the CPU's stands in whenever WebGPU's fails.

use crate::clock::{pause, within};
use crate::message::Engine;
use model::checkpoint::{Checkpoint, CheckpointError, Metadata};
use model::classifier::{Classifier, Prepared};
use model::engine::{self, Device, EngineError, EngineOptions};
use model::plan::Plan;
use model::prediction::Prediction;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use web_sys::console;
use web_time::Instant;

/// What [`Engine::WebGpu`] means: Burn's in a build that compares with it.
pub const WEBGPU: Device = if cfg!(feature = "burn-webgpu") { Device::Wgpu(0) } else { Device::WebGpu(0) };

/// A driver that has not opened its device by then is not waited for.
const PREPARATION_MS: i32 = 20_000;

/// How long it must have been quiet before anything is done that nobody waits for.
const QUIET_MS: i32 = 30;

pub struct Engines {
    /// The model's.
    name: String,
    metadata: Metadata,
    /// The model's, as long as another engine may have to be prepared: in int8 a quarter of what it is in an engine.
    file: RefCell<Rc<Vec<u8>>>,
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
    Weights(#[from] CheckpointError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the device {WEBGPU} was not ready after {} s", PREPARATION_MS / 1000)]
    Late,
}

impl PreparationError {
    pub fn code(&self) -> &'static str {
        match self {
            PreparationError::Weights(_) => "bad_weights",
            PreparationError::Engine(_) | PreparationError::Late => "engine",
        }
    }
}

/// A request from its arrival to its answer.
pub struct Visit(Rc<Engines>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Engines {
    /// Prepares the one that answers first, of a model's file.
    pub async fn prepare(engine: Engine, name: &str, file: Vec<u8>) -> Result<Self, PreparationError> {
        let webgpu = match engine {
            Engine::Auto | Engine::Cpu => None,
            Engine::WebGpu => match open_webgpu(name, &file).await {
                Ok(webgpu) => Some(webgpu),
                Err(error) => {
                    console::warn_1(&format!("WebGPU is not used: {error}").into());
                    None
                }
            },
        };
        let cpu = match webgpu {
            Some(_) => None,
            None => Some(open(name, &file, Device::Cpu).await?),
        };
        let first = webgpu.as_ref().or(cpu.as_ref()).expect("one of them is prepared");
        let engines = Engines {
            name: name.to_owned(),
            metadata: first.metadata().clone(),
            file: RefCell::new(Rc::new(file)),
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

    /// Classifies a photo. If WebGPU fails, the CPU answers this photo and all that follow.
    ///
    /// # Errors
    /// If the CPU fails too.
    pub async fn classify(&self, prepared: Prepared, top_k: usize) -> Result<Prediction, PreparationError> {
        let start = Instant::now();
        let webgpu = self.webgpu.borrow().clone();
        if let Some(webgpu) = webgpu {
            match webgpu.classify(prepared.clone(), 0.0, top_k).await {
                Ok(prediction) => return Ok(prediction),
                Err(error) => {
                    self.give_webgpu_up(&error);
                    self.cpu().await?;
                    self.settle();
                }
            }
        }
        let cpu = self.cpu().await?;
        Ok(cpu.classify(prepared, start.elapsed().as_secs_f64() * 1e3, top_k).await?)
    }

    /// The CPU's, prepared if it is not yet.
    pub async fn cpu(&self) -> Result<Rc<Classifier>, PreparationError> {
        let ready = self.cpu.borrow().clone();
        if let Some(cpu) = ready {
            return Ok(cpu);
        }
        let file = self.file.borrow().clone();
        let cpu = Rc::new(open(&self.name, &file, Device::Cpu).await?);
        self.cpu.replace(Some(cpu.clone()));
        Ok(cpu)
    }

    /// WebGPU's, which answers nothing yet.
    pub async fn webgpu(&self) -> Result<Classifier, PreparationError> {
        let file = self.file.borrow().clone();
        open_webgpu(&self.name, &file).await
    }

    /// From the next photo on.
    pub fn answer_on_webgpu(&self, webgpu: Classifier) {
        self.webgpu.replace(Some(Rc::new(webgpu)));
    }

    /// Photos that were under way together fail together; the first of them says why.
    fn give_webgpu_up(&self, error: &EngineError) {
        if self.webgpu.take().is_some() {
            console::warn_1(&format!("WebGPU is not used any more: {error}").into());
        }
    }

    /// No engine will be prepared any more.
    pub fn settle(&self) {
        self.file.take();
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
            pause(QUIET_MS).await;
            if self.waiting.get() == 0 {
                return;
            }
        }
    }
}

/// A model's engine on WebGPU, if the driver makes one in time.
async fn open_webgpu(name: &str, file: &[u8]) -> Result<Classifier, PreparationError> {
    within(PREPARATION_MS, open(name, file, WEBGPU)).await.unwrap_or(Err(PreparationError::Late))
}

async fn open(name: &str, file: &[u8], device: Device) -> Result<Classifier, PreparationError> {
    let checkpoint = Checkpoint::from_bytes(file)?;
    let metadata = checkpoint.metadata().clone();
    let engine = match device {
        Device::Cpu => engine::Engine::prepare(Plan::from(checkpoint), device).await?,
        _ => engine::Engine::prepare_from(&checkpoint, device, EngineOptions::default()).await?,
    };
    Ok(Classifier::of(name, metadata, engine))
}
