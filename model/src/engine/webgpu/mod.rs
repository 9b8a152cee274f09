//! The plan on a GPU through WebGPU, with kernels of our own: in a browser and, on Vulkan, Metal or Direct3D, natively.
//!
//! Weights are uploaded once. For every shape of input a [`Listing`] says what is dispatched, and a [`Layout`] holds the
//! buffers, bind groups and pipelines for it; it is made when the shape is first seen and kept. A run then writes the bytes of
//! its images, submits one list of dispatches, and reads the logits back: nothing else crosses the bus.

mod adapter;
#[cfg(target_arch = "wasm32")]
mod ahead;
mod choice;
mod gpu;
mod layout;
mod listing;
mod pipelines;
mod planes;
mod profile;
mod shaders;
mod steps;
mod storage;
#[cfg(test)]
mod tests;
mod timing;

use super::winograd::Scheme;
use super::{Device, EngineError, EngineOptions, Input, Kept, Logits, OperationProfile, Output};
use crate::architecture::Convolution;
use crate::plan::{Operation, Plan, Tap, Value};
use crate::preprocess::ImageBatch;
use gpu::Gpu;
use layout::{Dispatch, Layout};
use listing::Listing;
use planes::Planes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use steps::Step;
use storage::Storage;
use timing::Timer;
use wgpu::BufferUsages;

/// Layouts kept for shapes seen before.
const LAYOUTS: usize = 4;

/// If nobody says for what images an engine is.
const USUAL_SIDE: usize = 224;

/// No buffer holds the values of more.
const MOST_PIXELS: usize = 1 << 26;

/// A plan with its weights on a GPU.
pub(super) struct WebGpuEngine {
    gpu: Gpu,
    storage: Storage,
    steps: Vec<Step>,
    /// By step.
    weights: Vec<Option<wgpu::Buffer>>,
    /// By value: the last step that reads it.
    last_reads: Vec<Option<usize>>,
    taps: [(Tap, Value); Tap::ALL.len()],
    classes: usize,
    /// Those that no run holds; the one that was used last stands last.
    layouts: Mutex<Vec<Layout>>,
}

/// What a run uploads.
enum Values {
    /// To be normalised.
    Bytes(Vec<u8>),
    /// What the network begins with.
    Normalised(Vec<u8>),
}

impl WebGpuEngine {
    /// On the adapter of an index natively, in a browser on the one that it gives. The plan may be an outline, if
    /// [`fill`](Self::fill) brings the weights.
    pub async fn open(plan: &Plan, name: Device, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let mut gpu = Gpu::open(name, index).await?;
        if let Some(kind) = options.kernels {
            gpu.kind = kind;
        }
        let (kind, storage, largest) = (gpu.kind, Storage::of(options.precision, gpu.has_f16()), gpu.largest_buffer);
        let side = options.usual_side.unwrap_or(USUAL_SIDE);
        let scheme = |layer: &Convolution, to: &Planes| choice::scheme(kind, storage, largest, layer, to);
        Self::on(gpu, plan, storage, side, scheme).await
    }

    /// With Winograd's filtering where `scheme` says so, of a layer and its outputs for a usual image of side `side`.
    async fn on(
        gpu: Gpu,
        plan: &Plan,
        storage: Storage,
        side: usize,
        scheme: impl Fn(&Convolution, &Planes) -> Option<Scheme>,
    ) -> Result<Self, EngineError> {
        let steps = listing::steps(plan, storage, side, scheme);
        let size = |values: usize| values as u64 * storage.weights().bytes() as u64;
        let weights =
            |step: &Step| step.packed_values().map(|values| gpu.weights(step.name(), size(values))).transpose();
        let (weights, fine) = gpu.checked(|| steps.iter().map(weights).collect::<Result<_, _>>());
        fine.await?;
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let (last_reads, classes) = (plan.last_reads(), plan.architecture.classes);
        let layouts = Mutex::default();
        Ok(WebGpuEngine { gpu, storage, steps, weights: weights?, last_reads, taps, classes, layouts })
    }

    /// Layer by layer, whose memory is given back in between.
    pub async fn prepare(plan: Plan, name: Device, index: usize, options: EngineOptions) -> Result<Self, EngineError> {
        let engine = Self::open(&plan, name, index, options).await?;
        engine.fill_all(plan).await?;
        Ok(engine)
    }

    async fn fill_all(&self, plan: Plan) -> Result<(), EngineError> {
        for (index, operation) in plan.operations.into_iter().enumerate() {
            self.fill(index, &operation).await?;
        }
        Ok(())
    }

    /// Uploads the weights of an operation of the plan.
    ///
    /// # Errors
    /// [`EngineError::Failed`] if one is too large for the storage.
    pub async fn fill(&self, index: usize, operation: &Operation) -> Result<(), EngineError> {
        let step = &self.steps[index];
        let Some((weights, packed)) = self.weights[index].as_ref().zip(step.pack(operation)) else { return Ok(()) };
        let packed = self.storage.weights().encode(&packed);
        let packed = packed.map_err(|weight| self.gpu.failed(format!("{} has the weight {weight}", step.name())))?;
        let ((), fine) = self.gpu.checked(|| {
            self.gpu.write(weights, &packed);
            // Natively, a copy of what is written is kept until something is submitted.
            self.gpu.queue.submit([]);
        });
        fine.await
    }

    /// Makes ready for inputs `[batch, height, width]`, which a first run would do otherwise; needs no weights.
    pub async fn expect(&self, shape: [usize; 3]) -> Result<(), EngineError> {
        let layout = self.layout(shape).await?;
        self.put_back(layout);
        Ok(())
    }

    #[cfg(test)]
    pub fn lose(&self) {
        self.gpu.destroy();
    }

    /// What computes, in words.
    pub fn description(&self) -> &str {
        &self.gpu.description
    }

    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        if let Input::Normalised(images) = input
            // A GPU need not keep a NaN as one, so that it would be found among the logits.
            && let Some(value) = images.values().iter().find(|value| !value.is_finite())
        {
            return Err(EngineError::Input(format!("it holds {value}")));
        }
        let at_once = self.images_at_once([height, width])?;
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut kept: Vec<Kept> =
            keep.iter().map(|&tap| Kept { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        let mut first = 0;
        while first < batch {
            let layout = self.layout([at_once.min(batch - first), height, width]).await?;
            self.execute(&layout, (input, first), (&mut logits, &mut kept)).await?;
            first += layout.shape[0];
            // Not if a run has failed in the middle: a buffer may be left mapped.
            self.put_back(layout);
        }
        let logits = Logits::new(logits, [batch, self.classes], self.gpu.name)?;
        Ok(Output { logits, kept })
    }

    /// A run's operations in the order of the network, each with its time on the GPU; `None` if the adapter has no clock.
    pub async fn profile(&self, input: &Input) -> Result<Option<Vec<OperationProfile>>, EngineError> {
        let [batch, height, width] = input.shape();
        let at_once = self.images_at_once([height, width])?;
        let mut operations: Vec<OperationProfile> = Vec::with_capacity(self.steps.len() + 1);
        let mut first = 0;
        while first < batch {
            let layout = self.layout([at_once.min(batch - first), height, width]).await?;
            let Some(times) = self.time(&layout, (input, first)).await? else { return Ok(None) };
            let listing = Listing::new(&self.steps, self.gpu.kind, self.storage, layout.shape);
            // What is normalised already has no dispatch for that.
            let planned = listing.dispatches.iter().skip(listing.dispatches.len() - times.len());
            for (planned, time) in planned.zip(times) {
                let dispatch = planned.profile(listing.code, time);
                match operations.iter_mut().find(|other| other.name == dispatch.name) {
                    Some(sum) => sum.add(&dispatch),
                    None => operations.push(dispatch),
                }
            }
            first += layout.shape[0];
            self.put_back(layout);
        }
        Ok(Some(operations))
    }

    /// Of each dispatch.
    async fn time(
        &self,
        layout: &Layout,
        (input, first): (&Input, usize),
    ) -> Result<Option<Vec<Duration>>, EngineError> {
        let values = self.values(layout, (input, first))?;
        let normalise = matches!(values, Values::Bytes(_)).then_some(&layout.normalise);
        let dispatches: Vec<&Dispatch> = normalise.into_iter().chain(&layout.dispatches).collect();
        let (timer, submitted) = self.gpu.checked(|| {
            let timer = Timer::new(&self.gpu, dispatches.len())?;
            self.write(layout, &values);
            let mut encoder = self.encoder(layout);
            for (index, dispatch) in dispatches.iter().enumerate() {
                let timestamp_writes = Some(timer.around(index));
                dispatch.encode(
                    &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }),
                );
            }
            timer.finish(&mut encoder);
            self.gpu.queue.submit([encoder.finish()]);
            Some(timer)
        });
        submitted.await?;
        let Some(timer) = timer else { return Ok(None) };
        let timestamps = self.gpu.read(timer.readback()).await?;
        Ok(Some(timing::durations(&timestamps, self.gpu.nanoseconds())))
    }

    /// A batch runs in pieces, since a buffer is limited, and the time of a submission should be.
    fn images_at_once(&self, [height, width]: [usize; 2]) -> Result<usize, EngineError> {
        let pixels = height.checked_mul(width).filter(|pixels| *pixels <= MOST_PIXELS);
        pixels.ok_or_else(|| too_large([height, width]))?;
        let (kind, largest) = (self.gpu.kind, self.gpu.largest_buffer);
        match listing::images_at_once(&self.steps, kind, self.storage, largest, [height, width]) {
            0 => Err(too_large([height, width])),
            images => Ok(usize::try_from(images).unwrap_or(usize::MAX)),
        }
    }

    /// Runs as many images of an input as the layout is for, and appends what comes out.
    async fn execute(
        &self,
        layout: &Layout,
        (input, first): (&Input, usize),
        (logits, kept): (&mut Vec<f32>, &mut [Kept]),
    ) -> Result<(), EngineError> {
        let values = self.values(layout, (input, first))?;
        let (copies, submitted) = self.gpu.checked(|| self.submit(layout, &values, kept));
        // All are asked for before any is waited for.
        let reading = self.gpu.read(&layout.readback);
        let reading_copies: Vec<_> = copies.iter().map(|copy| self.gpu.read(copy)).collect();
        submitted.await?;
        let shape = layout.shapes.last().expect("a plan has values");
        let read = reading.await?;
        let (values, overflow) = read.split_at(shape.bytes() as usize);
        if overflow.iter().any(|byte| *byte != 0) {
            return Err(self.gpu.failed("a value is larger than 65504, the largest f16"));
        }
        logits.extend(shape.unpack(values));
        for ((kept, reading), copy) in kept.iter_mut().zip(reading_copies).zip(&copies) {
            let shape = &layout.shapes[self.value(kept.tap)];
            kept.values.extend(shape.unpack(&reading.await?));
            copy.destroy();
            kept.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
        }
        Ok(())
    }

    /// Has it all computed, and copied to where it can be read: the logits in the layout, what is kept in buffers of its own.
    fn submit(&self, layout: &Layout, values: &Values, kept: &[Kept]) -> Vec<wgpu::Buffer> {
        self.write(layout, values);
        let mut encoder = self.encoder(layout);
        // A value that is asked for is copied before another one takes its buffer.
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let size = |value: Value| layout.shapes[value].bytes();
        let copies: Vec<_> =
            kept.iter().map(|kept| self.gpu.buffer("kept", size(self.value(kept.tap)), usage)).collect();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        if let Values::Bytes(_) = values {
            layout.normalise.encode(&mut pass);
        }
        for dispatch in &layout.dispatches {
            if dispatch.starts_submission {
                drop(pass);
                let before = std::mem::replace(&mut encoder, self.gpu.encoder());
                self.gpu.queue.submit([before.finish()]);
                pass = encoder.begin_compute_pass(&Default::default());
            }
            dispatch.encode(&mut pass);
            for (kept, copy) in kept.iter().zip(&copies) {
                let value = self.value(kept.tap);
                if dispatch.writes == Some(value) {
                    drop(pass);
                    encoder.copy_buffer_to_buffer(&layout.values[value], 0, copy, 0, size(value));
                    pass = encoder.begin_compute_pass(&Default::default());
                }
            }
        }
        drop(pass);
        let logits = layout.values.last().expect("a plan has values");
        let bytes = size(layout.values.len() - 1);
        encoder.copy_buffer_to_buffer(logits, 0, &layout.readback, 0, bytes);
        if let Some(overflow) = &layout.overflow {
            encoder.copy_buffer_to_buffer(overflow, 0, &layout.readback, bytes, overflow.size());
        }
        self.gpu.queue.submit([encoder.finish()]);
        copies
    }

    /// The images from `first` on, as many as the layout is for.
    fn values(&self, layout: &Layout, (input, first): (&Input, usize)) -> Result<Values, EngineError> {
        match input {
            Input::Pixels(images) => Ok(Values::Bytes(bytes(images, layout.shape, first))),
            Input::Normalised(images) => {
                let [batch, height, width] = layout.shape;
                let image = 3 * height * width;
                let values = &images.values()[first * image..][..batch * image];
                let packed = layout.shapes[Plan::INPUT].pack(values);
                packed.map(Values::Normalised).map_err(|value| EngineError::Input(format!("it holds {value}")))
            }
        }
    }

    fn write(&self, layout: &Layout, values: &Values) {
        match values {
            Values::Bytes(bytes) => self.gpu.write(&layout.upload, bytes),
            Values::Normalised(values) => self.gpu.write(&layout.values[Plan::INPUT], values),
        }
    }

    /// Of a run in which no value has been too large yet.
    fn encoder(&self, layout: &Layout) -> wgpu::CommandEncoder {
        let mut encoder = self.gpu.encoder();
        if let Some(overflow) = &layout.overflow {
            encoder.clear_buffer(overflow, 0, None);
        }
        encoder
    }

    fn value(&self, tap: Tap) -> Value {
        let found = self.taps.iter().find(|(other, _)| *other == tap);
        found.expect("all taps are listed").1
    }

    /// What another run has left, or a new one; for fewer images, if it must be.
    async fn layout(&self, mut shape: [usize; 3]) -> Result<Layout, EngineError> {
        let [_, height, width] = shape;
        while shape[0] > 0 {
            if let Some(layout) = self.left(shape) {
                return Ok(layout);
            }
            let listing = Listing::new(&self.steps, self.gpu.kind, self.storage, shape);
            if listing.fits(self.gpu.largest_buffer) {
                return Layout::new(&self.gpu, listing, &self.steps, &self.weights, &self.last_reads).await;
            }
            shape[0] /= 2;
        }
        Err(too_large([height, width]))
    }

    fn left(&self, shape: [usize; 3]) -> Option<Layout> {
        let mut layouts = lock(&self.layouts);
        layouts.iter().position(|layout| layout.shape == shape).map(|index| layouts.remove(index))
    }

    fn put_back(&self, layout: Layout) {
        let mut layouts = lock(&self.layouts);
        if layouts.len() == LAYOUTS {
            layouts.remove(0);
        }
        layouts.push(layout);
    }
}

fn too_large([height, width]: [usize; 2]) -> EngineError {
    EngineError::Input(format!("images of {height}x{width} are too large for this GPU"))
}

/// Mean, standard deviation and the images from `first` on, as the kernel reads them.
fn bytes(images: &ImageBatch, [batch, height, width]: [usize; 3], first: usize) -> Vec<u8> {
    let image = height * width * 3;
    let pixels = &images.pixels()[first * image..][..batch * image];
    let header: [f32; listing::HEADER] = {
        let ([a, b, c], [d, e, f]) = (images.mean(), images.std());
        [a, b, c, d, e, f]
    };
    let mut bytes = [bytemuck::cast_slice(&header), pixels].concat();
    // Writes are of whole words.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A panic leaves what is behind the mutexes here as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
