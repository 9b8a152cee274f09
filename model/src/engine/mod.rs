//! Who executes a [`Plan`](crate::plan::Plan). An engine is the only code that knows hardware; a new one touches one folder
//! and one match, the one in [`Engine::prepare_with`].

// Threads share engines natively; in a browser, where there is one, a GPU's handles belong to it.
#![cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync))]

#[cfg(feature = "webgpu")]
mod awaiting;
#[cfg(feature = "burn")]
mod burn;
pub mod cpu;
mod device;
mod enduring;
mod options;
mod profile;
#[cfg(feature = "webgpu")]
mod webgpu;
mod winograd;

#[cfg(feature = "webgpu")]
pub use awaiting::AwaitingEngine;
#[cfg(feature = "burn")]
pub use burn::open as burn_device;
pub use device::{Device, DeviceError};
pub use enduring::{EnduringEngine, Report};
pub use options::{AdapterKind, EngineOptions, NoAdapterKind, NoPrecision, Precision, threads};
pub use profile::OperationProfile;

use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Tap};
use crate::preprocess::ImageBatch;
use cpu::CpuEngine;
#[cfg(feature = "webgpu")]
use std::sync::Arc;

/// What a run reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Bytes, normalised by the engine.
    Pixels(ImageBatch),
    /// For those who bring tensors.
    Normalised(Normalised),
}

/// f32 `[batch, 3, height, width]`, the mean subtracted and divided by the standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    values: Vec<f32>,
    shape: [usize; 3],
}

impl Normalised {
    /// `values` is `[batch, 3, height, width]`.
    pub fn new(values: Vec<f32>, [batch, height, width]: [usize; 3]) -> Result<Self, EngineError> {
        let shape = [batch, height, width];
        let expected = shape.iter().try_fold(3usize, |product, side| product.checked_mul(*side));
        if values.is_empty() || expected != Some(values.len()) {
            return Err(EngineError::Input(format!(
                "{} values are no batch [{batch}, 3, {height}, {width}]",
                values.len()
            )));
        }
        Ok(Normalised { values, shape })
    }

    /// One batch of several, in their order.
    pub fn stack(batches: impl IntoIterator<Item = Normalised>) -> Result<Self, EngineError> {
        let mut batches = batches.into_iter();
        let mut all = batches.next().ok_or_else(|| EngineError::Input("a batch needs at least one image".into()))?;
        for next in batches {
            if all.shape[1..] != next.shape[1..] {
                return Err(EngineError::Input("images of different size cannot share a batch".into()));
            }
            all.values.extend_from_slice(&next.values);
            all.shape[0] += next.shape[0];
        }
        Ok(all)
    }

    /// Image `index` as a batch of one.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, index: usize) -> Self {
        let [_, height, width] = self.shape;
        let size = 3 * height * width;
        Normalised { values: self.values[index * size..][..size].to_vec(), shape: [1, height, width] }
    }

    /// `[batch, 3, height, width]`
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// `[batch, height, width]`
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
}

impl Input {
    /// `[batch, height, width]`
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Input::Pixels(batch) => batch.shape(),
            Input::Normalised(batch) => batch.shape(),
        }
    }
}

/// f32 `[batch, classes]`
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    pub values: Vec<f32>,
    pub batch: usize,
    pub classes: usize,
}

impl Logits {
    /// What an engine computed, `[batch, classes]`. A value that is no number is a failure of the device or of the
    /// input, never an answer.
    pub fn new(values: Vec<f32>, [batch, classes]: [usize; 2], device: Device) -> Result<Self, EngineError> {
        match values.iter().find(|value| !value.is_finite()) {
            Some(&value) => Err(EngineError::NotFinite { device, value }),
            None => Ok(Logits { values, batch, classes }),
        }
    }

    /// The logits of one image: `[classes]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.classes..][..self.classes]
    }
}

/// A value that a run was asked to keep: f32 `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub tap: Tap,
    pub values: Vec<f32>,
    pub shape: [usize; 4],
}

/// What a run yields.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub logits: Logits,
    /// In the order in which they were asked for.
    pub kept: Vec<Kept>,
}

/// Why a plan was not prepared or not executed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{0} takes {takes}", takes = .0.takes())]
    Precision(Precision),
    #[error("input: {0}")]
    Input(String),
    #[error("the device {device} failed: {reason}")]
    Failed { device: Device, reason: String },
    /// The device has failed, or the values of the input are too large to compute with.
    #[error("a logit that {device} computed is {value}")]
    NotFinite { device: Device, value: f32 },
    /// A GPU that was taken away: nothing more comes from this engine, but another one can be prepared.
    #[error("the device {device} is gone: {reason}")]
    Lost { device: Device, reason: String },
}

/// A plan prepared on a device.
pub struct Engine {
    device: Device,
    runner: Runner,
}

enum Runner {
    Cpu(Box<CpuEngine>),
    #[cfg(feature = "webgpu")]
    WebGpu(Arc<webgpu::WebGpuEngine>),
    #[cfg(feature = "burn")]
    Burn(Box<burn::BurnEngine>),
}

impl Engine {
    /// Brings the plan's weights to the device.
    ///
    /// # Errors
    /// [`EngineError::Device`] if this build does not know the device, or the machine has none.
    pub async fn prepare(plan: Plan, device: Device) -> Result<Self, EngineError> {
        Engine::prepare_with(plan, device, EngineOptions::default()).await
    }

    /// As [`prepare`](Self::prepare); a device ignores the options that are none of its own.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare), [`EngineError::Failed`] if threads cannot be started, and
    /// [`EngineError::Precision(Precision::Bf16)`] if that is asked for where it is not, on another device above all.
    pub async fn prepare_with(plan: Plan, device: Device, options: EngineOptions) -> Result<Self, EngineError> {
        options.check(device)?;
        match device {
            Device::Cpu => Ok(Engine { device, runner: Runner::Cpu(Box::new(CpuEngine::prepare(plan, options)?)) }),
            #[cfg(feature = "webgpu")]
            Device::WebGpu(index) => {
                let engine = webgpu::WebGpuEngine::prepare(plan, device, index, options).await?;
                Ok(Engine { device, runner: Runner::WebGpu(Arc::new(engine)) })
            }
            #[cfg(not(feature = "webgpu"))]
            Device::WebGpu(_) => Err(DeviceError::NotCompiledIn(device).into()),
            #[cfg(feature = "burn")]
            Device::Flex | Device::Wgpu(_) | Device::Cuda(_) => {
                Ok(Engine { device, runner: Runner::Burn(Box::new(burn::BurnEngine::prepare(plan, device).await?)) })
            }
            #[cfg(not(feature = "burn"))]
            Device::Flex | Device::Wgpu(_) | Device::Cuda(_) => Err(DeviceError::NotCompiledIn(device).into()),
        }
    }

    /// As [`prepare_with`](Self::prepare_with), of a checkpoint that is needed further. A GPU gets it layer by layer, so
    /// that memory never holds all of them as f32.
    ///
    /// # Errors
    /// Those of [`prepare_with`](Self::prepare_with).
    pub async fn prepare_from(
        checkpoint: &Checkpoint,
        device: Device,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        options.check(device)?;
        match device {
            #[cfg(feature = "webgpu")]
            Device::WebGpu(index) => {
                let usual_side = options.usual_side.or(Some(checkpoint.metadata().preprocessing.crop as usize));
                let options = EngineOptions { usual_side, ..options };
                AwaitingEngine::open(checkpoint.architecture(), index, options).await?.fill(checkpoint).await
            }
            _ => Engine::prepare_with(Plan::new(checkpoint), device, options).await,
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// What computes, in words, where the name of the device does not tell: a GPU's.
    pub fn adapter(&self) -> Option<&str> {
        match &self.runner {
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => Some(engine.description()),
            _ => None,
        }
    }

    /// Loses its GPU, as a driver's crash does.
    #[cfg(all(test, feature = "webgpu"))]
    fn lose(&self) {
        if let Runner::WebGpu(engine) = &self.runner {
            engine.lose();
        }
    }

    /// Executes the plan for a batch of any size and resolution, and keeps the values of `keep`.
    ///
    /// # Errors
    /// [`EngineError::Input`] for an input that the engine refuses, [`EngineError::Failed`] if the device fails,
    /// [`EngineError::NotFinite`] if a logit is no number, and [`EngineError::Lost`] if a GPU was taken away.
    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        match &self.runner {
            Runner::Cpu(engine) => engine.run(input, keep),
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => engine.run(input, keep).await,
            #[cfg(feature = "burn")]
            Runner::Burn(engine) => engine.run(input, keep).await,
        }
    }

    /// The operations of one run in the order of the network, each with its time. `None` if the device does not tell.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub async fn profile(&self, input: &Input) -> Result<Option<Vec<OperationProfile>>, EngineError> {
        match &self.runner {
            Runner::Cpu(engine) => engine.profile(input).map(Some),
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => engine.profile(input).await,
            #[cfg(feature = "burn")]
            Runner::Burn(_) => Ok(None),
        }
    }
}
