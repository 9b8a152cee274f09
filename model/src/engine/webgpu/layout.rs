//! A plan for one shape of input: buffers for its values, and what is dispatched.

use super::super::EngineError;
use super::choice::{Adapter, Tile};
use super::gpu::Gpu;
use super::planes::Planes;
use super::shaders::{self, Kernel, Surroundings};
use super::steps::{Step, Work};
use crate::plan::{Plan, Value};
use wgpu::BufferUsages;

/// Words in front of the bytes of an upload: mean and standard deviation by colour.
pub const HEADER: usize = 6;

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
    /// By step.
    pub dispatches: Vec<Dispatch>,
    /// Where the logits can be read.
    pub readback: wgpu::Buffer,
}

/// One kernel on its buffers.
pub struct Dispatch {
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
    pub async fn new(
        gpu: &Gpu,
        steps: &[Step],
        last_reads: &[Option<usize>],
        shape: [usize; 3],
    ) -> Result<Self, EngineError> {
        let shapes = shapes(steps, shape);
        let kernels = kernels(gpu.adapter, steps, &shapes);
        let pipelines = gpu.pipelines(&kernels.iter().collect::<Vec<_>>()).await?;
        let (layout, fine) = gpu.checked(|| {
            let values = buffers(gpu, steps, last_reads, &shapes);
            let upload = gpu.buffer("upload", upload_bytes(shape), BufferUsages::STORAGE | BufferUsages::COPY_DST);
            let normalise = gpu.bind(&values[Plan::INPUT], &[&upload]);
            let bound = steps.iter().map(|step| {
                let (weights, residual) = match &step.work {
                    Work::Convolution { weights, residual, .. } => {
                        (Some(weights), residual.map(|value| &values[value]))
                    }
                    Work::MaxPool(_) | Work::Average => (None, None),
                };
                let reads: Vec<_> = [Some(&values[step.input]), weights, residual].into_iter().flatten().collect();
                gpu.bind(&values[step.output], &reads)
            });
            let bound = std::iter::once(normalise).chain(bound);
            let dispatches = kernels.iter().zip(pipelines).zip(bound).map(|((kernel, pipeline), buffers)| Dispatch {
                pipeline,
                buffers,
                workgroups: kernel.workgroups,
            });
            let mut dispatches: Vec<_> = dispatches.collect();
            let normalise = dispatches.remove(0);
            let logits = shapes.last().expect("a plan has values").bytes();
            let readback = gpu.buffer("readback", logits, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
            Layout { shape, upload, normalise, shapes, values, dispatches, readback }
        });
        fine.await?;
        Ok(layout)
    }
}

/// That which normalises, then one for each step.
fn kernels(adapter: Adapter, steps: &[Step], shapes: &[Planes]) -> Vec<Kernel> {
    let of_a_step = |step: &Step| {
        let (from, to) = (&shapes[step.input], &shapes[step.output]);
        match &step.work {
            Work::Convolution { layer, residual, relu, .. } => {
                let tile = Tile::choose(adapter, layer, to);
                let residual = residual.map(|value| &shapes[value]);
                shaders::convolution(layer, &tile, Surroundings { from, to, residual, relu: *relu })
            }
            Work::MaxPool(pool) => shaders::max_pool(pool, from, to),
            Work::Average => shaders::average_pool(from),
        }
    };
    std::iter::once(shaders::normalise(&shapes[Plan::INPUT])).chain(steps.iter().map(of_a_step)).collect()
}

/// Whole words.
fn upload_bytes([batch, height, width]: [usize; 3]) -> u64 {
    ((HEADER + (batch * height * width * 3).div_ceil(4)) * 4) as u64
}

/// Bytes that the largest buffer takes for each image.
pub fn largest_buffer(steps: &[Step], [height, width]: [usize; 2]) -> u64 {
    shapes(steps, [1, height, width]).iter().map(Planes::bytes).max().expect("a plan has values")
}

/// By value. A border is as wide as the widest padding of those who read it.
fn shapes(steps: &[Step], [batch, height, width]: [usize; 3]) -> Vec<Planes> {
    let mut borders = vec![0; steps.len() + 1];
    for step in steps {
        borders[step.input] = step.border().max(borders[step.input]);
    }
    let mut shapes = vec![Planes { channels: 3, batch, height, width, border: borders[Plan::INPUT] }];
    for step in steps {
        let from: Planes = shapes[step.input];
        let (height, width) = (step.output_size(from.height), step.output_size(from.width));
        let channels = step.out_channels().unwrap_or(from.channels);
        shapes.push(Planes { channels, batch, height, width, border: borders[step.output] });
    }
    shapes
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
