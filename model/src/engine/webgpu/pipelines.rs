//! A cache of compiled kernels, keyed by their source, so that layers of one shape share a pipeline. All kernels that a
//! caller needs are compiled concurrently.

use super::super::EngineError;
use super::bind_groups::BindGroupLayouts;
use super::gpu::Gpu;
use super::shaders::Kernel;
use parking_lot::Mutex;
use std::collections::HashMap;
use wgpu::ComputePipeline;

/// Maximum number of cached pipelines, more than a few networks in a few shapes need. Beyond it, the cache is cleared;
/// workspaces keep the pipelines that they use.
const MAX_CACHED: usize = 256;

/// Natively, only accesses to buffers are checked, not the termination of loops. Browsers ignore this setting.
const UNCHECKED_LOOPS: wgpu::ShaderRuntimeChecks =
    wgpu::ShaderRuntimeChecks { bounds_checks: true, ..wgpu::ShaderRuntimeChecks::unchecked() };

/// Compiled kernels by source.
pub struct PipelineCache {
    pub layouts: BindGroupLayouts,
    by_source: Mutex<HashMap<String, ComputePipeline>>,
}

impl PipelineCache {
    pub fn new(device: &wgpu::Device) -> Self {
        PipelineCache { layouts: BindGroupLayouts::new(device), by_source: Mutex::default() }
    }

    /// Returns a pipeline for each kernel, compiling those that are not cached.
    ///
    /// # Errors
    /// Returns an error if a kernel does not compile or the device is lost.
    pub async fn get(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        let mut available = self.by_source.lock().clone();
        let mut missing: Vec<&Kernel> = Vec::new();
        for &kernel in kernels {
            if !available.contains_key(&kernel.source) && missing.iter().all(|other| other.source != kernel.source) {
                missing.push(kernel);
            }
        }
        let compiled = self.compile(gpu, &missing).await?;
        let compiled: Vec<_> = missing.iter().map(|kernel| kernel.source.clone()).zip(compiled).collect();
        available.extend(compiled.iter().cloned());
        let mut cached = self.by_source.lock();
        if cached.len() + compiled.len() > MAX_CACHED {
            cached.clear();
        }
        cached.extend(compiled);
        drop(cached);
        Ok(kernels.iter().map(|kernel| available[&kernel.source].clone()).collect())
    }

    /// Compiles kernels on all cores.
    #[cfg(not(target_arch = "wasm32"))]
    async fn compile(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        use rayon::prelude::*;
        // An error scope catches only the errors of its own thread, so each compilation has a scope of its own.
        let compiled: Vec<_> =
            kernels.par_iter().map(|kernel| gpu.with_error_scopes(|| self.create(gpu, kernel))).collect();
        let mut pipelines = Vec::with_capacity(kernels.len());
        for (pipeline, validation) in compiled {
            validation.await?;
            pipelines.push(pipeline);
        }
        Ok(pipelines)
    }

    /// Compiles kernels asynchronously first, so that wgpu's synchronous calls find them in the browser's cache.
    #[cfg(target_arch = "wasm32")]
    async fn compile(&self, gpu: &Gpu, kernels: &[&Kernel]) -> Result<Vec<ComputePipeline>, EngineError> {
        // The browser caches the pipelines as long as these handles exist.
        let handles =
            super::async_pipelines::compile(&gpu.device, kernels).await.map_err(|reason| gpu.failure(reason))?;
        let create = || kernels.iter().map(|kernel| self.create(gpu, kernel)).collect();
        let (pipelines, validation) = gpu.with_error_scopes(create);
        validation.await?;
        drop(handles);
        Ok(pipelines)
    }

    fn create(&self, gpu: &Gpu, kernel: &Kernel) -> ComputePipeline {
        let source = wgpu::ShaderSource::Wgsl(kernel.source.as_str().into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source };
        // SAFETY: every loop of a kernel counts up to a bound that it does not change, and every divisor is a number
        // of tiles, pixels, images, or blocks of channels of the output or of a group, of which there is at least
        // one. Reads and writes are checked nevertheless: whether they stay in bounds depends on all shapes, and the
        // check costs nothing on hardware that checks buffer accesses itself.
        let module = unsafe { gpu.device.create_shader_module_trusted(descriptor, UNCHECKED_LOOPS) };
        gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(self.layouts.pipeline_layout(kernel.reads, kernel.reports_overflow)),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                // Kernels write workgroup memory before they read it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}
