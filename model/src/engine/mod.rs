//! Engines, which execute a [`Plan`](crate::plan::Plan) on a device.
//!
//! Only engines contain code for specific hardware. A new engine needs one folder and one arm of the match in
//! [`Engine::prepare_with`].

// Natively, threads share engines. In a browser, the handles of a GPU belong to the only thread that uses them.
#![cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync))]

#[cfg(feature = "burn")]
mod burn;
pub mod cpu;
mod device;
mod error;
mod fallback;
mod input;
mod options;
mod output;
mod precision;
mod prepare_from;
mod profile;
#[cfg(feature = "webgpu")]
mod streaming;
#[cfg(feature = "webgpu")]
mod webgpu;
mod winograd;

#[cfg(feature = "burn")]
pub use burn::open as burn_device;
pub use device::{Device, DeviceError};
pub use error::EngineError;
pub use fallback::{FallbackEngine, OnFallback};
pub use input::{Input, Normalised};
pub use options::{AdapterKind, EngineOptions, UnknownAdapterKind, parse_thread_count};
pub use output::{Activation, Logits, Output};
pub use precision::{Precision, UnknownPrecision};
pub use profile::OperationProfile;
#[cfg(feature = "webgpu")]
pub use streaming::StreamingEngine;

use crate::plan::{Plan, Tap};
use cpu::CpuEngine;
#[cfg(feature = "webgpu")]
use std::sync::Arc;

/// A plan prepared on a device.
///
/// ```
/// use model::architecture::Architecture;
/// use model::engine::{Device, Engine, Input, Normalised};
/// use model::plan::Plan;
///
/// # pollster::block_on(async {
/// let checkpoint = model::random::checkpoint(Architecture::new("resnet18", 10).unwrap());
/// let engine = Engine::prepare(Plan::from(checkpoint), Device::Cpu).await?;
/// let [batch, height, width] = [2, 32, 32];
/// let images = Normalised::new(vec![0.5; batch * 3 * height * width], [batch, height, width])?;
/// let output = engine.run(&Input::Normalised(images), &[]).await?;
/// assert_eq!((output.logits.batch, output.logits.classes), (2, 10));
/// # Ok::<(), model::engine::EngineError>(())
/// # }).unwrap();
/// ```
pub struct Engine {
    device: Device,
    runner: Runner,
}

/// The implementation that executes the plan.
enum Runner {
    Cpu(Box<CpuEngine>),
    #[cfg(feature = "webgpu")]
    WebGpu(Arc<webgpu::WebGpuEngine>),
    #[cfg(feature = "burn")]
    Burn(Box<burn::BurnEngine>),
}

impl Engine {
    /// Prepares a plan on a device with default options.
    ///
    /// # Errors
    /// Returns [`EngineError::Device`] if this build does not support the device or the machine does not have it.
    pub async fn prepare(plan: Plan, device: Device) -> Result<Self, EngineError> {
        Engine::prepare_with(plan, device, EngineOptions::default()).await
    }

    /// Prepares a plan on a device: packs or uploads its weights. Options that concern other devices are ignored,
    /// except the precision.
    ///
    /// # Errors
    /// Returns the errors of [`prepare`](Self::prepare), [`EngineError::Failed`] if threads cannot be started, and
    /// [`EngineError::UnsupportedPrecision`] if the device or the processor does not support the requested precision.
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

    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns a description of the GPU that the engine runs on, or `None` for devices other than `webgpu`.
    pub fn adapter(&self) -> Option<&str> {
        match &self.runner {
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => Some(engine.description()),
            _ => None,
        }
    }

    /// Simulates the loss of the GPU, as after a crash of its driver.
    #[cfg(all(test, feature = "webgpu"))]
    fn simulate_loss(&self) {
        if let Runner::WebGpu(engine) = &self.runner {
            engine.simulate_loss();
        }
    }

    /// Executes the plan for a batch of any size and resolution. The output also holds the activations at `taps`.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if the engine rejects the input or the network has no such tap,
    /// [`EngineError::Failed`] if the device fails, [`EngineError::NotFinite`] if a logit is infinite or NaN, and
    /// [`EngineError::Lost`] if the GPU was lost.
    pub async fn run(&self, input: &Input, taps: &[Tap]) -> Result<Output, EngineError> {
        self.check_taps(taps)?;
        match &self.runner {
            Runner::Cpu(engine) => engine.run(input, taps),
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => engine.run(input, taps).await,
            #[cfg(feature = "burn")]
            Runner::Burn(engine) => engine.run(input, taps).await,
        }
    }

    fn check_taps(&self, taps: &[Tap]) -> Result<(), EngineError> {
        let tap_values = match &self.runner {
            Runner::Cpu(engine) => engine.tap_values(),
            #[cfg(feature = "webgpu")]
            Runner::WebGpu(engine) => engine.tap_values(),
            #[cfg(feature = "burn")]
            Runner::Burn(engine) => engine.tap_values(),
        };
        match taps.iter().find(|tap| tap_values.get(**tap).is_none()) {
            Some(tap) => Err(EngineError::InvalidInput(format!("the network has no {tap}"))),
            None => Ok(()),
        }
    }

    /// Runs once and returns the operations in the order of the network, each with its time, or `None` if the device
    /// does not measure them.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
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
