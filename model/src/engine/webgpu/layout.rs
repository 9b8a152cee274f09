//! A plan for one shape of input on a GPU: buffers for its values, and what is dispatched on them.

use super::super::EngineError;
use super::gpu::Gpu;
use super::listing::{Between, Listing, Planned, Slot};
use super::planes::Planes;
use super::shaders::Kernel;
use super::steps::Step;
use crate::plan::Value;
use wgpu::BufferUsages;

/// Bytes of one.
const WORD: u64 = 4;

pub struct Layout {
    /// `[batch, height, width]`
    pub shape: [usize; 3],
    /// What bytes are written to, and from where they are normalised into the input.
    pub upload: wgpu::Buffer,
    pub normalise: Dispatch,
    /// By value.
    pub shapes: Vec<Planes>,
    /// By value; those that are never alive together and have the same shape share a buffer.
    pub values: Vec<wgpu::Buffer>,
    /// In order; a step takes one or more.
    pub dispatches: Vec<Dispatch>,
    /// Those of kernels that read them.
    kernel_shapes: Vec<wgpu::Buffer>,
    /// What lies between the dispatches of a step.
    scratch: [Option<wgpu::Buffer>; 2],
    /// A word that is not zero once a value was too large, if values are f16.
    pub overflow: Option<wgpu::Buffer>,
    /// Where the logits can be read, and behind them that word.
    pub readback: wgpu::Buffer,
}

/// One kernel on its buffers.
pub struct Dispatch {
    /// The value that is complete behind it.
    pub writes: Option<Value>,
    /// Whether what is before it is submitted first.
    pub starts_submission: bool,
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    pub fn encode(&self, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.buffers, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Layout {
    /// `weights` are those of each step.
    pub async fn new(
        gpu: &Gpu,
        listing: Listing<'_>,
        steps: &[Step],
        weights: &[Option<wgpu::Buffer>],
        last_reads: &[Option<usize>],
    ) -> Result<Self, EngineError> {
        let kernels: Vec<Kernel> =
            listing.dispatches.iter().map(|planned| planned.shader.kernel(listing.code)).collect();
        let pipelines = gpu.pipelines(&kernels.iter().collect::<Vec<_>>()).await?;
        let (layout, fine) =
            gpu.checked(|| Layout::bind(gpu, listing, (kernels, pipelines), steps, weights, last_reads));
        fine.await?;
        Ok(layout)
    }

    fn bind(
        gpu: &Gpu,
        listing: Listing,
        (kernels, pipelines): (Vec<Kernel>, Vec<wgpu::ComputePipeline>),
        steps: &[Step],
        weights: &[Option<wgpu::Buffer>],
        last_reads: &[Option<usize>],
    ) -> Self {
        let values = buffers(gpu, steps, last_reads, &listing.values);
        let upload = gpu.buffer("upload", listing.upload_bytes(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
        let scratch = [Between::First, Between::Second].map(|between| {
            let bytes = listing.scratch_bytes(between);
            (bytes > 0).then(|| gpu.buffer("scratch", bytes, BufferUsages::STORAGE))
        });
        let overflow = kernels.iter().any(|kernel| kernel.checked);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let overflow = overflow.then(|| gpu.buffer("overflow", WORD, usage));
        let buffer = |slot: &Slot| match *slot {
            Slot::Upload => &upload,
            Slot::Value(value) => &values[value],
            Slot::Weights(step) => weights[step].as_ref().expect("the step has weights"),
            Slot::Scratch(between) => scratch[between as usize].as_ref().expect("as many bytes as are needed"),
        };
        let starts = listing.submissions(gpu.kind);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let kernel_shapes: Vec<Option<wgpu::Buffer>> = kernels
            .iter()
            .map(|kernel| {
                kernel.shape.as_ref().map(|words| {
                    let shape = gpu.buffer("shape", words.len() as u64 * WORD, usage);
                    gpu.write(&shape, bytemuck::cast_slice(words));
                    shape
                })
            })
            .collect();
        let bind = |(index, pipeline): (usize, wgpu::ComputePipeline)| {
            let (planned, kernel): (&Planned, &Kernel) = (&listing.dispatches[index], &kernels[index]);
            let reads: Vec<_> = planned.reads.iter().map(buffer).chain(&kernel_shapes[index]).collect();
            let writes = match planned.output {
                Slot::Value(value) => Some(value),
                _ => None,
            };
            let buffers = gpu.bind(buffer(&planned.output), &reads, overflow.as_ref().filter(|_| kernel.checked));
            let (starts_submission, workgroups) = (starts[index], kernel.workgroups);
            Dispatch { writes, starts_submission, pipeline, buffers, workgroups }
        };
        let mut dispatches = pipelines.into_iter().enumerate().map(bind);
        let normalise = dispatches.next().expect("the first normalises");
        let dispatches = dispatches.collect();

        let logits = listing.values.last().expect("a plan has values").bytes();
        let bytes = logits + overflow.as_ref().map_or(0, wgpu::Buffer::size);
        let readback = gpu.buffer("readback", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Layout {
            shape: listing.shape,
            upload,
            normalise,
            shapes: listing.values,
            values,
            dispatches,
            kernel_shapes: kernel_shapes.into_iter().flatten().collect(),
            scratch,
            overflow,
            readback,
        }
    }
}

impl Drop for Layout {
    /// See [`Gpu`]: nothing else gives the memory back in a browser.
    fn drop(&mut self) {
        let others = self.scratch.iter().chain([&self.overflow]).flatten().chain(&self.kernel_shapes);
        let buffers = self.values.iter().chain([&self.upload, &self.readback]).chain(others);
        buffers.for_each(wgpu::Buffer::destroy);
    }
}

/// By value: a buffer of the same shape whose value nothing reads any more, or a new one.
fn buffers(gpu: &Gpu, steps: &[Step], last_reads: &[Option<usize>], shapes: &[Planes]) -> Vec<wgpu::Buffer> {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let mut free: Vec<(Planes, wgpu::Buffer)> = Vec::new();
    let mut values: Vec<wgpu::Buffer> = Vec::with_capacity(shapes.len());
    for (value, shape) in shapes.iter().enumerate() {
        let left = free.iter().position(|(free, _)| free == shape);
        values.push(match left {
            Some(index) => free.swap_remove(index).1,
            None => gpu.buffer("value", shape.bytes(), usage),
        });
        // The step that wrote this value has read its inputs.
        let Some(step) = value.checked_sub(1) else { continue };
        let mut done: Vec<Value> = steps[step].inputs().filter(|&input| last_reads[input] == Some(step)).collect();
        done.dedup();
        free.extend(done.into_iter().map(|input| (shapes[input], values[input].clone())));
    }
    values
}
