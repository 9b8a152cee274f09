//! An open WebGPU device: buffers, submissions, readback, and the detection of errors and device loss.

use super::super::{AdapterKind, Device, DeviceError, EngineError};
use super::adapter;
use super::bind_groups::MAX_STORAGE_BUFFERS;
use parking_lot::Mutex;
use std::sync::Arc;
use wgpu::{BufferUsages, ErrorFilter};

/// Classes of errors that a scope catches: all, so that each error reaches the call that caused it.
const ERROR_FILTERS: [ErrorFilter; 3] = [ErrorFilter::Validation, ErrorFilter::OutOfMemory, ErrorFilter::Internal];

/// The feature that measures how long a dispatch takes.
const TIMESTAMPS: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY;
/// Features that are enabled if the adapter has them.
const OPTIONAL_FEATURES: wgpu::Features = TIMESTAMPS.union(wgpu::Features::SHADER_F16);

/// Maximum time in milliseconds to wait, after a failure, for the report of a device loss, which another thread may be
/// about to deliver.
#[cfg(not(target_arch = "wasm32"))]
const LOSS_REPORT_MS: usize = 20;

/// An open device with its queue.
pub struct Gpu {
    /// The engine's device, named in errors.
    pub name: Device,
    pub kind: AdapterKind,
    /// Description for users: name, backend, and whether it is emulated.
    pub description: String,
    /// Maximum size of a buffer that kernels can bind, in bytes.
    pub max_buffer_size: u64,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// Reason of the loss, if the device was lost. A lost device never comes back.
    loss: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the adapter with this index or, in a browser, the adapter that the browser chooses.
    ///
    /// # Errors
    /// Returns [`EngineError::Device`] if there is no such adapter or it cannot be opened.
    pub async fn open(name: Device, index: usize) -> Result<Self, EngineError> {
        let not_found = |reason: String| DeviceError::NotFound { device: name, reason };
        let adapter = adapter::find(index).await.map_err(not_found)?;
        let (device, queue) =
            adapter.request_device(&device_descriptor(&adapter)).await.map_err(|error| not_found(error.to_string()))?;
        let info = adapter::info(&adapter, &device);

        let loss: Arc<Mutex<Option<String>>> = Arc::default();
        let record = {
            let loss = loss.clone();
            move |reason: String| {
                loss.lock().get_or_insert(reason);
            }
        };
        let record_loss = record.clone();
        device.set_device_lost_callback(move |reason, message| {
            record_loss(format!("{message} (reason: {reason:?})"));
        });
        // All calls run within error scopes. After an error outside of a scope, no result can be trusted: treat it as a
        // loss.
        device.on_uncaptured_error(Arc::new(move |error| record(error.to_string())));

        let limits = device.limits();
        Ok(Gpu {
            name,
            kind: AdapterKind::from_info(&info),
            description: adapter::describe(&info),
            max_buffer_size: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            device,
            queue,
            loss,
        })
    }

    /// Runs `work` within error scopes. The result must not be used before the returned future has confirmed that no
    /// error occurred.
    pub fn with_error_scopes<T>(&self, work: impl FnOnce() -> T) -> (T, impl Future<Output = Result<(), EngineError>>) {
        let scopes = ERROR_FILTERS.map(|filter| self.device.push_error_scope(filter));
        let result = work();
        let errors: Vec<_> = scopes.into_iter().rev().map(wgpu::ErrorScopeGuard::pop).collect();
        let validation = async move {
            let mut first_error = None;
            for error in errors {
                first_error = first_error.or(error.await);
            }
            first_error.map_or(Ok(()), |error| Err(self.failure(error)))
        };
        (result, validation)
    }

    /// Returns the error for a failed operation: [`EngineError::Lost`] if the device is lost, otherwise
    /// [`EngineError::Failed`] with `reason`.
    pub fn failure(&self, reason: impl ToString) -> EngineError {
        // Natively, polling delivers the report of a loss.
        #[cfg(not(target_arch = "wasm32"))]
        for _ in 0..LOSS_REPORT_MS {
            let _ = self.device.poll(wgpu::PollType::Poll);
            if self.loss.lock().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let device = self.name;
        match self.loss.lock().clone() {
            Some(reason) => EngineError::Lost { device, reason },
            None => EngineError::Failed { device, reason: reason.to_string() },
        }
    }

    /// Creates a zero-initialised buffer of `size` bytes.
    pub fn create_buffer(&self, label: &str, size: u64, usage: BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Returns whether kernels can compute with f16.
    pub fn supports_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Creates a buffer of `size` bytes for a layer's weights.
    ///
    /// # Errors
    /// Returns [`EngineError::Failed`] if the device has no buffers of this size.
    pub fn create_weight_buffer(&self, layer: &str, size: u64) -> Result<wgpu::Buffer, EngineError> {
        if size > self.max_buffer_size {
            let limit = self.max_buffer_size;
            return Err(
                self.failure(format!("the weights of {layer} have {size} bytes, and the largest buffer has {limit}"))
            );
        }
        Ok(self.create_buffer(layer, size, BufferUsages::STORAGE | BufferUsages::COPY_DST))
    }

    pub fn write_buffer(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        self.queue.write_buffer(buffer, 0, bytes);
    }

    /// Creates a query set of `count` timestamps, or returns `None` if the adapter has no timestamp queries.
    pub fn create_timestamps(&self, count: u32) -> Option<wgpu::QuerySet> {
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
        self.device.features().contains(TIMESTAMPS).then(|| self.device.create_query_set(&descriptor))
    }

    /// Returns the unit of timestamps, in nanoseconds.
    pub fn timestamp_period(&self) -> f32 {
        self.queue.get_timestamp_period()
    }

    pub fn create_command_encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    /// Reads a mappable buffer after all submitted work has finished. The mapping is requested by the call itself,
    /// not when the future is first polled.
    pub fn read_buffer<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
    ) -> impl Future<Output = Result<Vec<T>, EngineError>> {
        let (sender, mapped) = futures_channel::oneshot::channel();
        // The receiver may have been dropped with the run's future; then sending fails, which is harmless.
        let ((), validation) = self.with_error_scopes(|| {
            buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
        });
        let buffer = buffer.clone();
        async move {
            #[cfg(not(target_arch = "wasm32"))]
            self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.failure(error))?;
            let mapped = mapped.await;
            validation.await?;
            // Mapping a valid buffer fails only if the device is lost. A browser may report the loss later.
            let lost = |error: String| match self.failure(error) {
                EngineError::Failed { device, reason } => EngineError::Lost { device, reason },
                other => other,
            };
            mapped.map_err(|error| lost(error.to_string()))?.map_err(|error| lost(error.to_string()))?;
            let values =
                bytemuck::pod_collect_to_vec(&buffer.get_mapped_range(..).map_err(|error| self.failure(error))?);
            buffer.unmap();
            Ok(values)
        }
    }

    /// Loses the device, as a driver crash or a suspended laptop does.
    #[cfg(test)]
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

impl Drop for Gpu {
    /// Destroys the device in a browser. The garbage collector would free it much later, since it does not account for
    /// GPU memory.
    fn drop(&mut self) {
        #[cfg(target_arch = "wasm32")]
        self.device.destroy();
    }
}

/// Requests the adapter's own limits for what grows with a model; all other limits are those that every adapter has.
fn device_descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    let limits = adapter.limits();
    let required_limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: MAX_STORAGE_BUFFERS,
        max_buffer_size: limits.max_buffer_size,
        max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
        ..wgpu::Limits::downlevel_defaults().using_resolution(limits)
    };
    let required_features = adapter.features() & OPTIONAL_FEATURES;
    wgpu::DeviceDescriptor { required_limits, required_features, ..Default::default() }
}
