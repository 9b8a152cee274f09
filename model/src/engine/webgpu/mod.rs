//! Executes a plan on a GPU through WebGPU with our own kernels: in a browser, and natively on Vulkan, Metal or
//! Direct3D.
//!
//! Weights are uploaded once. For each shape of input, a [`DispatchPlan`] lists the dispatches, and a [`Workspace`]
//! holds the buffers, bind groups and pipelines for them; it is created when the shape first occurs, and then reused.
//! A run writes the pixels of its images, submits one list of dispatches, and reads the logits back; nothing else is
//! transferred.

mod adapter;
#[cfg(target_arch = "wasm32")]
mod async_pipelines;
mod bind_groups;
mod convolution_spec;
mod cost_model;
mod dispatch_plan;
mod gpu;
mod k_tile;
mod kernel_config;
mod kernel_selection;
mod packed_input;
mod pipelines;
mod profile;
mod run;
mod shaders;
mod steps;
mod storage;
mod tensor_layout;
#[cfg(all(test, feature = "burn"))]
mod tests;
mod timestamps;
mod winograd_tiling;
mod workspace;

use super::winograd::WinogradVariant;
use super::{Device, EngineError, EngineOptions};
use crate::architecture::Convolution;
use crate::plan::{Operation, Plan, TapValues};
use dispatch_plan::DispatchPlan;
use gpu::Gpu;
use kernel_selection::select_winograd;
use parking_lot::Mutex;
use pipelines::PipelineCache;
use steps::Step;
use storage::StorageFormat;
use tensor_layout::TensorLayout;
use workspace::{StepResources, Workspace};

/// Maximum number of idle workspaces, which are kept for input shapes that may occur again.
const MAX_IDLE_WORKSPACES: usize = 4;

/// Side of images if the options have no nominal side.
const DEFAULT_NOMINAL_SIDE: usize = 224;

/// Maximum number of pixels of an image. The values of a larger one do not fit into any buffer.
const MAX_PIXELS: usize = 1 << 26;

/// A plan with its weights on a GPU.
pub(super) struct WebGpuEngine {
    gpu: Gpu,
    pipelines: PipelineCache,
    storage: StorageFormat,
    steps: Vec<Step>,
    /// Weights of each step; `None` for pools.
    weights: Vec<Option<wgpu::Buffer>>,
    /// Index of the last step that reads each value; `None` for the logits.
    last_reads: Vec<Option<usize>>,
    tap_values: TapValues,
    classes: usize,
    /// Workspaces that no run uses; the most recently used one is last.
    idle_workspaces: Mutex<Vec<Workspace>>,
}

impl WebGpuEngine {
    /// Opens the adapter with this index or, in a browser, the adapter that the browser chooses. Uploads no weights:
    /// [`upload_weights`](Self::upload_weights) must be called for each operation of the plan.
    ///
    /// # Errors
    /// Returns [`EngineError::Device`] if there is no such adapter, and [`EngineError::Failed`] if it has too little
    /// memory for the weights.
    pub async fn open(plan: &Plan, name: Device, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let mut gpu = Gpu::open(name, index).await?;
        if let Some(kind) = options.adapter_kind {
            gpu.kind = kind;
        }
        let (kind, max_buffer_size) = (gpu.kind, gpu.max_buffer_size);
        let storage = StorageFormat::new(options.precision, gpu.supports_f16());
        let nominal_side = options.nominal_side.unwrap_or(DEFAULT_NOMINAL_SIDE);
        Self::with_winograd(gpu, plan, storage, nominal_side, |layer, output| {
            select_winograd(kind, storage, max_buffer_size, layer, output)
        })
        .await
    }

    /// Allocates the weights of a plan. `select_winograd` decides how 3x3 convolutions are computed, from the layer
    /// and the layout of its outputs for an image of side `nominal_side`.
    async fn with_winograd(
        gpu: Gpu,
        plan: &Plan,
        storage: StorageFormat,
        nominal_side: usize,
        select_winograd: impl Fn(&Convolution, &TensorLayout) -> Option<WinogradVariant>,
    ) -> Result<Self, EngineError> {
        let steps = dispatch_plan::steps(plan, storage, nominal_side, select_winograd);
        let bytes = |elements: usize| elements as u64 * storage.weight_type().bytes() as u64;
        let weights = |step: &Step| {
            step.packed_len().map(|elements| gpu.create_weight_buffer(step.name(), bytes(elements))).transpose()
        };
        let (weights, validation) = gpu.with_error_scopes(|| steps.iter().map(weights).collect::<Result<_, _>>());
        validation.await?;
        Ok(WebGpuEngine {
            pipelines: PipelineCache::new(&gpu.device),
            gpu,
            storage,
            steps,
            weights: weights?,
            last_reads: plan.last_reads(),
            tap_values: plan.tap_values().clone(),
            classes: plan.architecture.classes,
            idle_workspaces: Mutex::default(),
        })
    }

    /// Opens an adapter and uploads the plan's weights layer by layer, freeing each layer's memory after its upload.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open) and [`upload_weights`](Self::upload_weights).
    pub async fn prepare(plan: Plan, name: Device, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let engine = Self::open(&plan, name, index, options).await?;
        engine.upload_all_weights(plan).await?;
        Ok(engine)
    }

    async fn upload_all_weights(&self, plan: Plan) -> Result<(), EngineError> {
        for (index, operation) in plan.operations.into_iter().enumerate() {
            self.upload_weights(index, &operation).await?;
        }
        Ok(())
    }

    /// Uploads the weights of an operation of the plan.
    ///
    /// # Errors
    /// Returns [`EngineError::Failed`] if a weight overflows the storage format.
    pub async fn upload_weights(&self, index: usize, operation: &Operation) -> Result<(), EngineError> {
        let step = &self.steps[index];
        let Some((buffer, packed)) = self.weights[index].as_ref().zip(step.pack_weights(operation)) else {
            return Ok(());
        };
        let encoded =
            self.storage.weight_type().encode(&packed).map_err(|weight| {
                self.gpu.failure(format!("weight {weight} of layer {} overflows f16", step.name()))
            })?;
        let ((), validation) = self.gpu.with_error_scopes(|| {
            self.gpu.write_buffer(buffer, &encoded);
            // Natively, wgpu keeps a copy of written data until the next submission.
            self.gpu.queue.submit([]);
        });
        validation.await
    }

    /// Compiles the kernels and allocates the buffers for inputs of shape `[batch, height, width]`, so that the first
    /// run need not do so. The weights may be uploaded later.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if images are too large for the GPU, and [`EngineError::Failed`] or
    /// [`EngineError::Lost`].
    pub async fn precompile(&self, shape: [usize; 3]) -> Result<(), EngineError> {
        let workspace = self.acquire_workspace(shape).await?;
        self.release_workspace(workspace);
        Ok(())
    }

    /// Simulates the loss of the GPU.
    #[cfg(test)]
    pub fn simulate_loss(&self) {
        self.gpu.destroy();
    }

    /// Returns a description of the GPU for users: name, backend, and whether it is emulated.
    pub fn description(&self) -> &str {
        &self.gpu.description
    }

    /// Returns the number of images that run at once. Larger batches run in parts, because the size of buffers is
    /// limited, and the length of a submission should be.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if not even one image fits.
    fn max_batch_size(&self, [height, width]: [usize; 2]) -> Result<usize, EngineError> {
        let pixels = height.checked_mul(width).filter(|pixels| *pixels <= MAX_PIXELS);
        pixels.ok_or_else(|| too_large([height, width]))?;
        let (kind, max_buffer_size) = (self.gpu.kind, self.gpu.max_buffer_size);
        match dispatch_plan::max_batch_size(&self.steps, kind, self.storage, max_buffer_size, [height, width]) {
            0 => Err(too_large([height, width])),
            images => Ok(usize::try_from(images).unwrap_or(usize::MAX)),
        }
    }

    /// Returns an idle workspace or a new one for inputs of this shape. If the GPU cannot run the whole batch at once,
    /// the workspace is for fewer images.
    async fn acquire_workspace(&self, mut shape: [usize; 3]) -> Result<Workspace, EngineError> {
        let [_, height, width] = shape;
        while shape[0] > 0 {
            if let Some(workspace) = self.take_idle_workspace(shape) {
                return Ok(workspace);
            }
            let plan = DispatchPlan::new(&self.steps, self.gpu.kind, self.storage, shape);
            if plan.fits(self.gpu.max_buffer_size) {
                return Workspace::new(&self.gpu, &self.pipelines, plan, self.step_resources()).await;
            }
            shape[0] /= 2;
        }
        Err(too_large([height, width]))
    }

    fn take_idle_workspace(&self, shape: [usize; 3]) -> Option<Workspace> {
        let mut idle = self.idle_workspaces.lock();
        idle.iter().position(|workspace| workspace.input_shape == shape).map(|index| idle.remove(index))
    }

    /// Makes a workspace available to other runs. After a failed run, drop the workspace instead: one of its buffers
    /// may still be mapped.
    fn release_workspace(&self, workspace: Workspace) {
        let mut idle = self.idle_workspaces.lock();
        if idle.len() == MAX_IDLE_WORKSPACES {
            idle.remove(0);
        }
        idle.push(workspace);
    }

    fn step_resources(&self) -> StepResources<'_> {
        StepResources { steps: &self.steps, weights: &self.weights, last_reads: &self.last_reads }
    }
}

fn too_large([height, width]: [usize; 2]) -> EngineError {
    EngineError::InvalidInput(format!("images of {height}x{width} pixels are too large for this GPU"))
}
