//! An opened adapter: buffers, pipelines, and what goes wrong with it.

use super::super::{Device, DeviceError, EngineError};
use super::choice::AdapterKind;
use super::shaders::Kernel;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Kernels read three buffers at most: input, weights, residual.
const READS: usize = 3;

pub struct Gpu {
    pub name: Device,
    pub kind: AdapterKind,
    /// Bytes of a buffer that kernels can use.
    pub largest_buffer: u64,
    device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Whether kernels can use f16.
    pub f16: bool,
    /// By how many buffers a kernel reads, and by whether it is checked.
    layouts: Vec<[(wgpu::BindGroupLayout, wgpu::PipelineLayout); 2]>,
    /// By source: layers of one shape share a pipeline.
    pipelines: Mutex<HashMap<String, wgpu::ComputePipeline>>,
    /// The first thing that went wrong outside any call.
    failure: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    pub async fn open(name: Device, index: usize) -> Result<Self, EngineError> {
        let absent = |reason: String| DeviceError::Absent { device: name, reason };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = adapter(&instance, index).await.map_err(absent)?;
        let info = adapter.get_info();
        let limits = wgpu::Limits {
            max_storage_buffers_per_shader_stage: READS as u32 + 2,
            ..wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits())
        };
        let required_features = adapter.features() & wgpu::Features::SHADER_F16;
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits: limits, ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| absent(error.to_string()))?;

        let failure: Arc<Mutex<Option<String>>> = Arc::default();
        let note = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = failure.clone();
            move |reason: String| {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
            }
        };
        let (lost, wrong) = (note(&failure), note(&failure));
        device.set_device_lost_callback(move |reason, message| lost(format!("it was lost ({reason:?}): {message}")));
        device.on_uncaptured_error(Arc::new(move |error| wrong(error.to_string())));

        let layouts = (0..=READS).map(|reads| [layout(&device, reads, false), layout(&device, reads, true)]).collect();
        let f16 = device.features().contains(wgpu::Features::SHADER_F16);
        let kind = AdapterKind::of(&info, &names(&device));
        let limits = device.limits();
        let largest_buffer = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        Ok(Gpu { name, kind, largest_buffer, device, queue, f16, layouts, pipelines: Mutex::default(), failure })
    }

    /// Fails if anything has gone wrong so far.
    pub fn check(&self) -> Result<(), EngineError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), |reason| Err(self.failed(reason)))
    }

    pub fn failed(&self, reason: impl ToString) -> EngineError {
        EngineError::Failed { device: self.name, reason: reason.to_string() }
    }

    /// Zero at first.
    pub fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A storage buffer with this content.
    pub fn upload(&self, label: &str, bytes: &[u8]) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.buffer(label, bytes.len() as u64, usage);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// All at once.
    pub fn pipelines(&self, kernels: &[&Kernel]) -> Vec<wgpu::ComputePipeline> {
        kernels.iter().map(|kernel| self.pipeline(kernel)).collect()
    }

    fn pipeline(&self, kernel: &Kernel) -> wgpu::ComputePipeline {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&kernel.source) {
            return pipeline.clone();
        }
        let source = wgpu::ShaderSource::Wgsl(kernel.source.as_str().into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&self.layouts[kernel.reads][usize::from(kernel.checked)].1),
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        pipelines.insert(kernel.source.clone(), pipeline.clone());
        pipeline
    }

    /// What a kernel writes, what it reads, and what is told of values that are too large.
    pub fn bind(
        &self,
        output: &wgpu::Buffer,
        reads: &[&wgpu::Buffer],
        overflow: Option<&wgpu::Buffer>,
    ) -> wgpu::BindGroup {
        let buffers = std::iter::once(output).chain(reads.iter().copied()).chain(overflow).enumerate();
        let entries: Vec<_> = buffers
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let layout = &self.layouts[reads.len()][usize::from(overflow.is_some())].0;
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// The content of a buffer that can be mapped, once all that was submitted is done.
    pub async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, EngineError> {
        let (done, mapped) = futures_channel::oneshot::channel();
        // Nobody listens any more if the run was given up.
        buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(done.send(result)));
        #[cfg(not(target_arch = "wasm32"))]
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.failed(error))?;
        let mapped = mapped.await;
        self.check()?;
        mapped.map_err(|error| self.failed(error))?.map_err(|error| self.failed(error))?;
        let bytes = buffer.get_mapped_range(..).map_err(|error| self.failed(error))?.to_vec();
        buffer.unmap();
        Ok(bytes)
    }
}

/// The adapter of an index natively; in a browser the one that it gives.
async fn adapter(instance: &wgpu::Instance, index: usize) -> Result<wgpu::Adapter, String> {
    if cfg!(target_arch = "wasm32") {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.map_err(|error| error.to_string());
    }
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    if index < adapters.len() {
        return Ok(adapters.swap_remove(index));
    }
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    Err(match names.as_slice() {
        [] => "no adapter was found".to_owned(),
        names => format!("there are {} adapters: {}", names.len(), names.join(", ")),
    })
}

/// Vendor and architecture, where wgpu does not pass on what a browser says, which often is nothing else.
#[cfg(target_arch = "wasm32")]
fn names(device: &wgpu::Device) -> String {
    // Not an object where a browser does not tell it by the device.
    let info = device.as_webgpu().map(|device| device.adapter_info()).filter(|info| info.is_object());
    info.map_or_else(String::new, |info| format!("{} {}", info.vendor(), info.architecture()))
}

/// Natively the adapter's own information is complete.
#[cfg(not(target_arch = "wasm32"))]
fn names(_: &wgpu::Device) -> String {
    String::new()
}

/// Binding 0 is written, those behind it are read; of a checked kernel the last one is written as well.
fn layout(device: &wgpu::Device, reads: usize, checked: bool) -> (wgpu::BindGroupLayout, wgpu::PipelineLayout) {
    let reads = 1..=reads as u32;
    let entries: Vec<_> = (0..reads.end() + 1 + u32::from(checked))
        .map(|binding| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: reads.contains(&binding) },
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
