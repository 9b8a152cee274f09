//! An engine that is made while its weights are still under way: its device is opened and its kernels are compiled
//! meanwhile, and each layer is uploaded as soon as it has come.

use super::webgpu::WebGpuEngine;
use super::{Device, Engine, EngineError, EngineOptions, Runner};
use crate::architecture::Architecture;
use crate::checkpoint::{Checkpoint, Incoming};
use crate::plan::{Operation, Plan};
use std::sync::Arc;

/// The engine for WebGPU before it has all weights.
pub struct AwaitingEngine {
    device: Device,
    engine: Arc<WebGpuEngine>,
    /// Operations of the outline without their weights, by index.
    missing: Vec<(usize, Operation)>,
}

impl AwaitingEngine {
    /// On the N-th GPU natively, in a browser on the one that it gives.
    ///
    /// # Errors
    /// [`EngineError::Device`] if there is none, [`EngineError::Failed`] if it has no memory for the weights.
    pub async fn open(architecture: Architecture, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let device = Device::WebGpu(index);
        let plan = Plan::outline(architecture);
        let engine = Arc::new(WebGpuEngine::open(&plan, device, index, options).await?);
        Ok(AwaitingEngine { device, engine, missing: plan.operations.into_iter().enumerate().collect() })
    }

    /// Compiles what inputs `[batch, height, width]` will need. The future does not depend on the weights, nor they on it.
    pub fn expect(&self, shape: [usize; 3]) -> impl Future<Output = Result<(), EngineError>> + use<> {
        let engine = self.engine.clone();
        async move { engine.expect(shape).await }
    }

    /// Uploads the layers that have come and were not uploaded yet.
    ///
    /// # Errors
    /// [`EngineError::Failed`] or [`EngineError::Lost`].
    pub async fn take(&mut self, weights: &Incoming) -> Result<(), EngineError> {
        let has_come =
            |(_, operation): &mut (usize, Operation)| operation.tensors().iter().all(|tensor| weights.has(tensor));
        let come: Vec<_> = self.missing.extract_if(.., has_come).collect();
        for operation in come {
            self.upload(operation, |name| weights.values(name)).await?;
        }
        Ok(())
    }

    /// Uploads all layers of a checkpoint of this architecture, one after the other.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub async fn fill(mut self, weights: &Checkpoint) -> Result<Engine, EngineError> {
        for operation in std::mem::take(&mut self.missing) {
            self.upload(operation, |name| weights.values(name)).await?;
        }
        self.finish()
    }

    async fn upload(
        &self,
        (index, mut operation): (usize, Operation),
        values: impl FnMut(&str) -> Vec<f32>,
    ) -> Result<(), EngineError> {
        operation.fill(values);
        self.engine.fill(index, &operation).await
    }

    /// The engine, if it has all weights.
    ///
    /// # Errors
    /// [`EngineError::Failed`] otherwise.
    pub fn finish(self) -> Result<Engine, EngineError> {
        match self.missing.as_slice() {
            [] => Ok(Engine { device: self.device, runner: Runner::WebGpu(self.engine) }),
            missing => {
                let reason = format!("{} layers have no weights", missing.len());
                Err(EngineError::Failed { device: self.device, reason })
            }
        }
    }
}
