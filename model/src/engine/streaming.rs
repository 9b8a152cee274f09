//! An engine that is prepared while its weights are still being downloaded: the device is opened and the kernels are
//! compiled in the meantime, and each layer is uploaded as soon as its tensors are complete.

use super::webgpu::WebGpuEngine;
use super::{Device, Engine, EngineError, EngineOptions, Runner};
use crate::architecture::Architecture;
use crate::checkpoint::{Checkpoint, CheckpointStream};
use crate::plan::{Operation, Plan};
use std::sync::Arc;

/// An engine for the device `webgpu` that does not have all of its weights yet.
pub struct StreamingEngine {
    device: Device,
    engine: Arc<WebGpuEngine>,
    /// Operations whose weights have not been loaded yet, by index.
    missing: Vec<(usize, Operation)>,
}

impl StreamingEngine {
    /// Opens GPU number `index` natively, or the GPU that the browser selects, and allocates memory for the weights.
    ///
    /// # Errors
    /// Returns [`EngineError::Device`] if there is no such GPU, and [`EngineError::Failed`] if it has too little
    /// memory.
    pub async fn open(architecture: Architecture, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let device = Device::WebGpu(index);
        let plan = Plan::without_weights(architecture);
        let engine = Arc::new(WebGpuEngine::open(&plan, device, index, options).await?);
        Ok(StreamingEngine { device, engine, missing: plan.operations.into_iter().enumerate().collect() })
    }

    /// Compiles the kernels for inputs of shape `[batch, height, width]`. The future does not borrow the engine, so
    /// weights can be uploaded while it runs.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`], [`EngineError::Failed`] or [`EngineError::Lost`].
    pub fn precompile(&self, shape: [usize; 3]) -> impl Future<Output = Result<(), EngineError>> + use<> {
        let engine = self.engine.clone();
        async move { engine.precompile(shape).await }
    }

    /// Uploads the layers whose tensors are complete in `stream` and that have not been uploaded yet.
    ///
    /// # Errors
    /// Returns [`EngineError::Failed`] or [`EngineError::Lost`].
    pub async fn upload_available(&mut self, stream: &CheckpointStream) -> Result<(), EngineError> {
        let is_available =
            |(_, operation): &mut (usize, Operation)| operation.tensor_names().iter().all(|tensor| stream.has(tensor));
        let available: Vec<_> = self.missing.extract_if(.., is_available).collect();
        for operation in available {
            self.upload(operation, |name| stream.values(name)).await?;
        }
        Ok(())
    }

    /// Uploads all remaining layers from a checkpoint of the same architecture, one after the other, and returns the
    /// engine.
    ///
    /// # Errors
    /// Returns the errors of [`upload_available`](Self::upload_available).
    pub async fn upload_all(mut self, checkpoint: &Checkpoint) -> Result<Engine, EngineError> {
        for operation in std::mem::take(&mut self.missing) {
            self.upload(operation, |name| checkpoint.values(name)).await?;
        }
        self.finish()
    }

    async fn upload(
        &self,
        (index, mut operation): (usize, Operation),
        values: impl FnMut(&str) -> Vec<f32>,
    ) -> Result<(), EngineError> {
        operation.load_weights(values);
        self.engine.upload_weights(index, &operation).await
    }

    /// Returns the engine, once all weights have been uploaded.
    ///
    /// # Errors
    /// Returns [`EngineError::Failed`] if weights are missing.
    pub fn finish(self) -> Result<Engine, EngineError> {
        match self.missing.as_slice() {
            [] => Ok(Engine { device: self.device, runner: Runner::WebGpu(self.engine) }),
            missing => {
                let reason = format!("weights of {} layers are missing", missing.len());
                Err(EngineError::Failed { device: self.device, reason })
            }
        }
    }
}
