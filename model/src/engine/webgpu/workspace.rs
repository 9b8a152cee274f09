//! The GPU resources of a plan for one shape of input: a buffer for each value, and the dispatches bound to them.

use super::super::EngineError;
use super::dispatch_plan::{BufferSlot, DispatchPlan, PlannedDispatch, ScratchSlot};
use super::gpu::Gpu;
use super::packed_input::upload_bytes;
use super::pipelines::PipelineCache;
use super::shaders::Kernel;
use super::steps::Step;
use super::tensor_layout::TensorLayout;
use crate::plan::ValueId;
use wgpu::BufferUsages;

const WORD_BYTES: u64 = 4;

/// Buffers and dispatches for one shape of input.
pub struct Workspace {
    /// Shape of the input, `[batch, height, width]`.
    pub input_shape: [usize; 3],
    /// The pixels of a run, which `normalise` reads.
    pub upload: wgpu::Buffer,
    pub normalise: Dispatch,
    /// Layout of each value.
    pub layouts: Vec<TensorLayout>,
    /// Buffer of each value. Values of the same layout share a buffer if they are never needed at the same time.
    pub values: Vec<wgpu::Buffer>,
    /// All dispatches after `normalise`, in order.
    pub dispatches: Vec<Dispatch>,
    /// Shape parameters, one buffer for each kernel that reads them.
    shape_parameters: Vec<wgpu::Buffer>,
    scratch: [Option<wgpu::Buffer>; 2],
    /// If values are f16: the overflow flag, a word that kernels set to 1 if a value overflows.
    pub overflow: Option<wgpu::Buffer>,
    /// Mappable copies of the logits and of the overflow flag, in this order.
    pub readback: wgpu::Buffer,
}

/// Resources of the steps of a plan, which all shapes of input share.
#[derive(Clone, Copy)]
pub struct StepResources<'a> {
    pub steps: &'a [Step],
    /// Weights of each step; `None` for pools.
    pub weights: &'a [Option<wgpu::Buffer>],
    /// Index of the last step that reads each value.
    pub last_reads: &'a [Option<usize>],
}

/// A kernel with its buffers.
pub struct Dispatch {
    /// The value that is complete after this dispatch.
    pub completes: Option<ValueId>,
    /// Whether the preceding dispatches are submitted before this one.
    pub starts_submission: bool,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Workspace {
    /// Compiles the kernels of a dispatch plan, and creates and binds their buffers.
    ///
    /// # Errors
    /// Returns an error if the GPU rejects a kernel, has too little memory, or is lost.
    pub async fn new(
        gpu: &Gpu,
        pipelines: &PipelineCache,
        plan: DispatchPlan<'_>,
        resources: StepResources<'_>,
    ) -> Result<Self, EngineError> {
        let kernels: Vec<Kernel> =
            plan.dispatches.iter().map(|dispatch| dispatch.shader.kernel(plan.specialisation)).collect();
        let compiled = pipelines.get(gpu, &kernels.iter().collect::<Vec<_>>()).await?;
        let (workspace, validation) =
            gpu.with_error_scopes(|| Workspace::bind(gpu, pipelines, plan, (kernels, compiled), resources));
        validation.await?;
        Ok(workspace)
    }

    fn bind(
        gpu: &Gpu,
        pipelines: &PipelineCache,
        plan: DispatchPlan,
        (kernels, compiled): (Vec<Kernel>, Vec<wgpu::ComputePipeline>),
        resources: StepResources,
    ) -> Self {
        let values = value_buffers(gpu, &plan.values, resources);
        let upload_usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let upload = gpu.create_buffer("upload", upload_bytes(plan.input_shape), upload_usage);
        let scratch = [ScratchSlot::First, ScratchSlot::Second].map(|slot| {
            let bytes = plan.scratch_bytes(slot);
            (bytes > 0).then(|| gpu.create_buffer("scratch", bytes, BufferUsages::STORAGE))
        });
        let reports_overflow = kernels.iter().any(|kernel| kernel.reports_overflow);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let overflow = reports_overflow.then(|| gpu.create_buffer("overflow", WORD_BYTES, usage));
        let buffer = |slot: &BufferSlot| match *slot {
            BufferSlot::Upload => &upload,
            BufferSlot::Value(value) => &values[value],
            BufferSlot::Weights(step) => resources.weights[step].as_ref().expect("the step has weights"),
            BufferSlot::Scratch(slot) => scratch[slot as usize].as_ref().expect("created for all dispatches"),
        };
        let starts = plan.submission_starts(gpu.kind);
        let shape_usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let shape_parameters: Vec<Option<wgpu::Buffer>> = kernels
            .iter()
            .map(|kernel| {
                kernel.shape_parameters.as_ref().map(|words| {
                    let buffer = gpu.create_buffer("shape", words.len() as u64 * WORD_BYTES, shape_usage);
                    gpu.write_buffer(&buffer, bytemuck::cast_slice(words));
                    buffer
                })
            })
            .collect();
        let bind = |(index, pipeline): (usize, wgpu::ComputePipeline)| {
            let (dispatch, kernel): (&PlannedDispatch, &Kernel) = (&plan.dispatches[index], &kernels[index]);
            let reads: Vec<_> = dispatch.reads.iter().map(buffer).chain(&shape_parameters[index]).collect();
            let completes = match dispatch.output {
                BufferSlot::Value(value) => Some(value),
                _ => None,
            };
            let overflow = overflow.as_ref().filter(|_| kernel.reports_overflow);
            let bind_group = pipelines.layouts.bind(buffer(&dispatch.output), &reads, overflow);
            let (starts_submission, workgroups) = (starts[index], kernel.workgroups);
            Dispatch { completes, starts_submission, pipeline, bind_group, workgroups }
        };
        let mut dispatches = compiled.into_iter().enumerate().map(bind);
        let normalise = dispatches.next().expect("the first dispatch normalises");
        let dispatches = dispatches.collect();

        let logit_bytes = plan.values.last().expect("a plan has values").bytes();
        let readback_bytes = logit_bytes + overflow.as_ref().map_or(0, wgpu::Buffer::size);
        let readback = gpu.create_buffer("readback", readback_bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Workspace {
            input_shape: plan.input_shape,
            upload,
            normalise,
            layouts: plan.values,
            values,
            dispatches,
            shape_parameters: shape_parameters.into_iter().flatten().collect(),
            scratch,
            overflow,
            readback,
        }
    }
}

impl Drop for Workspace {
    /// Destroys all buffers. In a browser, they would otherwise remain until a garbage collection; see [`Gpu`]'s
    /// `drop`.
    fn drop(&mut self) {
        let optional = self.scratch.iter().chain([&self.overflow]).flatten().chain(&self.shape_parameters);
        let buffers = self.values.iter().chain([&self.upload, &self.readback]).chain(optional);
        buffers.for_each(wgpu::Buffer::destroy);
    }
}

/// Assigns a buffer to each value: one of the same layout whose value is no longer needed, or a new one.
fn value_buffers(gpu: &Gpu, layouts: &[TensorLayout], resources: StepResources) -> Vec<wgpu::Buffer> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let mut free: Vec<(TensorLayout, wgpu::Buffer)> = Vec::new();
    let mut values: Vec<wgpu::Buffer> = Vec::with_capacity(layouts.len());
    for (value, layout) in layouts.iter().enumerate() {
        let reusable = free.iter().position(|(free, _)| free == layout);
        values.push(match reusable {
            Some(index) => free.swap_remove(index).1,
            None => gpu.create_buffer("value", layout.bytes(), usage),
        });
        // The step that writes this value has now read its inputs.
        let Some(step) = value.checked_sub(1) else { continue };
        let is_last_read = |&input: &ValueId| resources.last_reads[input] == Some(step);
        let mut unused: Vec<ValueId> = resources.steps[step].inputs().filter(is_last_read).collect();
        unused.dedup();
        free.extend(unused.into_iter().map(|input| (layouts[input], values[input].clone())));
    }
    values
}
