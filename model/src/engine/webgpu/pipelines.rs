//! Kernels compiled, each once and all side by side: layers of one shape share a pipeline.

use super::super::EngineError;
use super::gpu::Gpu;
use super::shaders::Kernel;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use wgpu::{BindGroupLayout, ComputePipeline, Device, PipelineLayout};

/// Kernels read three buffers at most: input, weights, residual.
const READS: usize = 3;

/// More than a few networks in a few shapes need. Then all are forgotten; those in use live on in their layouts.
const MOST: usize = 256;

pub struct Pipelines {
    device: Device,
    /// By how many buffers a kernel reads.
    layouts: Vec<(BindGroupLayout, PipelineLayout)>,
    /// By source.
    compiled: Mutex<HashMap<String, ComputePipeline>>,
}

impl Pipelines {
    pub fn new(device: &Device) -> Self {
        let layouts = (0..=READS).map(|reads| layout(device, reads)).collect();
        Pipelines { device: device.clone(), layouts, compiled: Mutex::default() }
    }

    /// What a kernel that reads so many buffers is bound to.
    pub fn bindings(&self, reads: usize) -> &BindGroupLayout {
        &self.layouts[reads].0
    }

    /// One for each kernel.
    pub async fn of(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        let mut known = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut new: Vec<&Kernel> = Vec::new();
        for &kernel in kernels {
            if !known.contains_key(&kernel.source) && new.iter().all(|other| other.source != kernel.source) {
                new.push(kernel);
            }
        }
        let compiled = self.compile(gpu, &new).await?;
        let compiled: Vec<_> = new.iter().map(|kernel| kernel.source.clone()).zip(compiled).collect();
        known.extend(compiled.iter().cloned());
        let mut all = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
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
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&self.layouts[kernel.reads].1),
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        })
    }
}

/// Binding 0 is written, those behind it are read.
fn layout(device: &Device, reads: usize) -> (BindGroupLayout, PipelineLayout) {
    let entries: Vec<_> = (0..=reads as u32)
        .map(|binding| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding > 0 },
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
