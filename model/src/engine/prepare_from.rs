//! Preparation of an engine from a checkpoint that stays in memory.

use super::Engine;
use super::device::Device;
use super::error::EngineError;
use super::options::EngineOptions;
#[cfg(feature = "webgpu")]
use super::streaming::StreamingEngine;
use crate::checkpoint::Checkpoint;
use crate::plan::Plan;

impl Engine {
    /// Prepares a checkpoint on a device without consuming it. The device `webgpu` receives the weights layer by layer,
    /// so that main memory never holds all layers as f32.
    ///
    /// # Errors
    /// Returns the errors of [`prepare_with`](Self::prepare_with).
    pub async fn prepare_from(
        checkpoint: &Checkpoint,
        device: Device,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        options.check(device)?;
        match device {
            #[cfg(feature = "webgpu")]
            Device::WebGpu(index) => {
                let nominal_side = options.nominal_side.or(Some(checkpoint.metadata().preprocessing.crop as usize));
                let options = EngineOptions { nominal_side, ..options };
                StreamingEngine::open(checkpoint.architecture(), index, options).await?.upload_all(checkpoint).await
            }
            _ => Engine::prepare_with(Plan::new(checkpoint), device, options).await,
        }
    }
}
