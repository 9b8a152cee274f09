//! An opened adapter: buffers, pipelines, and what goes wrong with it.

use super::super::{Device, DeviceError, EngineError};
use super::adapter;
use super::choice::AdapterKind;
use super::lock;
use super::pipelines::{MOST_BUFFERS, Pipelines};
use super::shaders::Kernel;
use std::sync::{Arc, Mutex};
use wgpu::{BufferUsages, ErrorFilter};

/// What can be wrong with a call: errors reach the scope that was opened for them, not whoever asks next.
const FILTERS: [ErrorFilter; 3] = [ErrorFilter::Validation, ErrorFilter::OutOfMemory, ErrorFilter::Internal];

/// What tells how long a dispatch takes.
const CLOCK: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY;
/// What is used where an adapter has it.
const WELCOME: wgpu::Features = CLOCK.union(wgpu::Features::SHADER_F16);

pub struct Gpu {
    pub name: Device,
    pub kind: AdapterKind,
    /// In words.
    pub description: String,
    /// Bytes of a buffer that kernels can use.
    pub largest_buffer: u64,
    device: wgpu::Device,
    pub queue: wgpu::Queue,
    pipelines: Pipelines,
    /// Why the device is gone, if it is. It never comes back.
    lost: Arc<Mutex<Option<String>>>,
}

/// How long a failure waits for word of a loss, which another thread may just be about to bring.
#[cfg(not(target_arch = "wasm32"))]
const GRACE_MS: usize = 20;

impl Gpu {
    pub async fn open(name: Device, index: usize) -> Result<Self, EngineError> {
        let absent = |reason: String| DeviceError::Absent { device: name, reason };
        let adapter = adapter::find(index).await.map_err(absent)?;
        let (device, queue) =
            adapter.request_device(&requirements(&adapter)).await.map_err(|error| absent(error.to_string()))?;
        let info = adapter::info(&adapter, &device);

        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let note = {
            let lost = lost.clone();
            move |reason: String| {
                lock(&lost).get_or_insert(reason);
            }
        };
        let gone = note.clone();
        device.set_device_lost_callback(move |reason, message| gone(format!("it was lost ({reason:?}) {message}")));
        // Whatever is done on the device is done in a scope. Should something escape them all, nothing is certain any more.
        device.on_uncaptured_error(Arc::new(move |error| note(error.to_string())));

        let limits = device.limits();
        Ok(Gpu {
            name,
            kind: AdapterKind::of(&info),
            description: adapter::describe(&info),
            largest_buffer: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            pipelines: Pipelines::new(&device),
            device,
            queue,
            lost,
        })
    }

    /// Has the device do something. What comes out is to be believed once the future has said that nothing was wrong.
    pub fn checked<T>(&self, work: impl FnOnce() -> T) -> (T, impl Future<Output = Result<(), EngineError>>) {
        let scopes = FILTERS.map(|filter| self.device.push_error_scope(filter));
        let done = work();
        let caught: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        let verdict = async move {
            let mut wrong = None;
            for caught in caught {
                wrong = wrong.or(caught.await);
            }
            wrong.map_or(Ok(()), |error| Err(self.failed(error)))
        };
        (done, verdict)
    }

    /// What has gone wrong: a loss, if the device is gone.
    pub fn failed(&self, reason: impl ToString) -> EngineError {
        // Natively, a loss is heard of here.
        #[cfg(not(target_arch = "wasm32"))]
        for _ in 0..GRACE_MS {
            let _ = self.device.poll(wgpu::PollType::Poll);
            if lock(&self.lost).is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let device = self.name;
        match lock(&self.lost).clone() {
            Some(reason) => EngineError::Lost { device, reason },
            None => EngineError::Failed { device, reason: reason.to_string() },
        }
    }

    /// Zero at first.
    pub fn buffer(&self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Whether kernels can use f16.
    pub fn has_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Memory for a layer's weights.
    pub fn weights(&self, layer: &str, size: u64) -> Result<wgpu::Buffer, EngineError> {
        if size > self.largest_buffer {
            let limit = self.largest_buffer;
            return Err(self.failed(format!("the weights of {layer} take {size} bytes, and a buffer holds {limit}")));
        }
        Ok(self.buffer(layer, size, BufferUsages::STORAGE | BufferUsages::COPY_DST))
    }

    pub fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        self.queue.write_buffer(buffer, 0, bytes);
    }

    /// One for each kernel; those that are new are compiled side by side.
    pub async fn pipelines(&self, kernels: &[&Kernel]) -> Result<Vec<wgpu::ComputePipeline>, EngineError> {
        self.pipelines.of(self, kernels).await
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
        let layout = self.pipelines.bindings(reads.len(), overflow.is_some());
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    /// So many, if the adapter has a clock.
    pub fn timestamps(&self, count: u32) -> Option<wgpu::QuerySet> {
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        self.device.features().contains(CLOCK).then(|| self.device.create_query_set(&descriptor))
    }

    /// What a unit of timestamps is.
    pub fn nanoseconds(&self) -> f32 {
        self.queue.get_timestamp_period()
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// Asks for the content of a buffer that can be mapped, once all that was submitted is done. The asking happens now.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer) -> impl Future<Output = Result<Vec<T>, EngineError>> {
        let (done, mapped) = futures_channel::oneshot::channel();
        // Nobody listens any more if the run was given up.
        let ((), asked) =
            self.checked(|| buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(done.send(result))));
        let buffer = buffer.clone();
        async move {
            #[cfg(not(target_arch = "wasm32"))]
            self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.failed(error))?;
            let mapped = mapped.await;
            asked.await?;
            // A buffer that nothing is wrong with is refused for one reason alone. A browser may tell of the loss later.
            let lost = |error: String| match self.failed(error) {
                EngineError::Failed { device, reason } => EngineError::Lost { device, reason },
                other => other,
            };
            mapped.map_err(|error| lost(error.to_string()))?.map_err(|error| lost(error.to_string()))?;
            let values =
                bytemuck::pod_collect_to_vec(&buffer.get_mapped_range(..).map_err(|error| self.failed(error))?);
            buffer.unmap();
            Ok(values)
        }
    }

    /// As a driver's crash or a sleeping laptop does.
    #[cfg(test)]
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

impl Drop for Gpu {
    /// In a browser what is dropped waits for its collector of garbage, which does not see a GPU's memory.
    fn drop(&mut self) {
        #[cfg(target_arch = "wasm32")]
        self.device.destroy();
    }
}

/// The adapter's own limits for what grows with a model, and of the rest what every adapter has.
fn requirements(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    let has = adapter.limits();
    let required_limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: MOST_BUFFERS,
        max_buffer_size: has.max_buffer_size,
        max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
        ..wgpu::Limits::downlevel_defaults().using_resolution(has)
    };
    wgpu::DeviceDescriptor { required_limits, required_features: adapter.features() & WELCOME, ..Default::default() }
}
