//! Kernels compiled, each once and all side by side: layers of one shape share a pipeline.

use super::super::EngineError;
use super::gpu::Gpu;
use super::lock;
use super::shaders::Kernel;
use std::collections::HashMap;
use std::iter::{once, repeat_n};
use std::sync::Mutex;
use wgpu::{BindGroupLayout, ComputePipeline, Device, PipelineLayout};

/// Kernels read four buffers at most: input, weights, residual, and their shapes.
const READS: usize = 4;
/// Beside them they write one, and perhaps that a value was too large.
pub const MOST_BUFFERS: u32 = READS as u32 + 2;

/// More than a few networks in a few shapes need. Then all are forgotten; those in use live on in their layouts.
const MOST: usize = 256;

/// Natively; a browser checks what it wants to.
const UNCHECKED_LOOPS: wgpu::ShaderRuntimeChecks =
    wgpu::ShaderRuntimeChecks { bounds_checks: true, ..wgpu::ShaderRuntimeChecks::unchecked() };

pub struct Pipelines {
    device: Device,
    /// By how many buffers a kernel reads, and by whether it is checked.
    layouts: Vec<[(BindGroupLayout, PipelineLayout); 2]>,
    /// By source.
    compiled: Mutex<HashMap<String, ComputePipeline>>,
}

impl Pipelines {
    pub fn new(device: &Device) -> Self {
        let layouts = (0..=READS).map(|reads| [layout(device, reads, false), layout(device, reads, true)]).collect();
        Pipelines { device: device.clone(), layouts, compiled: Mutex::default() }
    }

    /// What a kernel that reads so many buffers, and is checked or not, is bound to.
    pub fn bindings(&self, reads: usize, checked: bool) -> &BindGroupLayout {
        &self.layouts[reads][usize::from(checked)].0
    }

    /// One for each kernel.
    pub async fn of(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        let mut known = lock(&self.compiled).clone();
        let mut new: Vec<&Kernel> = Vec::new();
        for &kernel in kernels {
            if !known.contains_key(&kernel.source) && new.iter().all(|other| other.source != kernel.source) {
                new.push(kernel);
            }
        }
        let compiled = self.compile(gpu, &new).await?;
        let compiled: Vec<_> = new.iter().map(|kernel| kernel.source.clone()).zip(compiled).collect();
        known.extend(compiled.iter().cloned());
        let mut all = lock(&self.compiled);
        if all.len() + compiled.len() > MOST {
            all.clear();
        }
        all.extend(compiled);
        drop(all);
        Ok(kernels.iter().map(|kernel| known[&kernel.source].clone()).collect())
    }

    /// On all cores.
    #[cfg(not(target_arch = "wasm32"))]
    async fn compile(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        use rayon::prelude::*;
        // A scope hears of its own thread's errors.
        let compiled: Vec<_> = kernels.par_iter().map(|kernel| gpu.checked(|| self.create(kernel))).collect();
        let mut pipelines = Vec::with_capacity(kernels.len());
        for (pipeline, fine) in compiled {
            fine.await?;
            pipelines.push(pipeline);
        }
        Ok(pipelines)
    }

    /// Ahead, where the browser compiles without holding anything up.
    #[cfg(target_arch = "wasm32")]
    async fn compile(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        // To be kept until the same is asked for again.
        let ahead = super::ahead::compile(&self.device, kernels).await.map_err(|reason| gpu.failed(reason))?;
        let (pipelines, fine) = gpu.checked(|| kernels.iter().map(|kernel| self.create(kernel)).collect());
        fine.await?;
        drop(ahead);
        Ok(pipelines)
    }

    fn create(&self, kernel: &Kernel) -> ComputePipeline {
        let source = wgpu::ShaderSource::Wgsl(kernel.source.as_str().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
        // SAFETY: every loop of a kernel counts up to a number that it does not change, and every divisor is a number of tiles,
        // pixels, images, or blocks of channels of the output or of a group, of which there is at least one. Reads and writes
        // are checked nevertheless: that they stay inside rests on all shapes, and costs nothing where buffers check themselves.
        let module = unsafe { self.device.create_shader_module_trusted(descriptor, UNCHECKED_LOOPS) };
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&self.layouts[kernel.reads][usize::from(kernel.checked)].1),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                // What is read there was written before.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}

/// Whether each binding is only read: 0 is written, those behind it are read; of a checked kernel the last one is written as
/// well.
pub fn read_only(reads: usize, checked: bool) -> impl Iterator<Item = bool> {
    once(false).chain(repeat_n(true, reads)).chain(checked.then_some(false))
}

fn layout(device: &Device, reads: usize, checked: bool) -> (BindGroupLayout, PipelineLayout) {
    let entries: Vec<_> = (0..)
        .zip(read_only(reads, checked))
        .map(|(binding, read_only)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let groups = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&groups)],
        immediate_size: 0,
    });
    (groups, layout)
}
