//! The plan on a GPU through WebGPU, with kernels of our own: in a browser and, on Vulkan, Metal or Direct3D, natively.
//!
//! Weights are uploaded once. For every shape of input a [`Listing`] says what is dispatched, and a [`Layout`] holds buffers,
//! bind groups and pipelines for that; it is made when the shape is first seen and kept. A run then writes the bytes of its
//! images, submits one list of dispatches, and reads the logits back: nothing else crosses the bus.

mod choice;
mod gpu;
mod layout;
mod listing;
mod planes;
mod shaders;
mod steps;
mod storage;
#[cfg(test)]
mod tests;

use super::{Device, EngineError, Input, Kept, Logits, Output};
use crate::plan::{Plan, Tap, Value};
use crate::preprocess::ImageBatch;
use gpu::Gpu;
use layout::Layout;
pub use listing::DispatchSummary;
use listing::Listing;
use std::sync::{Mutex, MutexGuard, PoisonError};
use steps::Step;
pub use storage::Storage;
use wgpu::BufferUsages;

/// Layouts kept for shapes seen before.
const LAYOUTS: usize = 4;

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

impl WebGpuEngine {
    /// On the adapter of an index natively, in a browser on the one that it gives.
    ///
    /// # Errors
    /// [`EngineError::Device`] without such an adapter, [`EngineError::NoF16`] if it lacks what the storage takes, and
    /// [`EngineError::Failed`] if a weight is too large for that.
    pub async fn prepare(plan: Plan, name: Device, index: usize, storage: Storage) -> Result<Self, EngineError> {
        let gpu = Gpu::open(name, index).await?;
        if storage == Storage::F16 && !gpu.f16 {
            return Err(EngineError::NoF16(name));
        }
        let last_reads = plan.last_reads();
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let classes = plan.architecture.classes;
        let upload = |operation| {
            let (step, weights) = Step::new(operation);
            let weights = weights.map(|weights| storage.weights().encode(&weights)).transpose();
            let weights = weights.map_err(|weight| gpu.failed(format!("{} has the weight {weight}", step.name())))?;
            let weights = weights.map(|weights| gpu.upload(step.name(), &weights));
            Ok((step, weights))
        };
        let steps: Result<Vec<_>, EngineError> = plan.operations.into_iter().map(upload).collect();
        let (steps, weights) = steps?.into_iter().unzip();
        gpu.check()?;
        Ok(WebGpuEngine { gpu, storage, steps, weights, last_reads, taps, classes, layouts: Mutex::default() })
    }

    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        let at_once = self.images_at_once([height, width])?;
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut kept: Vec<Kept> =
            keep.iter().map(|&tap| Kept { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        let mut first = 0;
        while first < batch {
            let layout = self.layout([at_once.min(batch - first), height, width])?;
            self.execute(&layout, (input, first), (&mut logits, &mut kept)).await?;
            first += layout.shape[0];
            // Not kept if a run has failed in the middle, and a buffer may be left mapped.
            let mut layouts = lock(&self.layouts);
            if layouts.len() == LAYOUTS {
                layouts.remove(0);
            }
            layouts.push(layout);
        }
        let logits = Logits::new(logits, [batch, self.classes], self.gpu.name)?;
        Ok(Output { logits, kept })
    }

    /// What a run for `[batch, height, width]` dispatches for as many images as it takes at once, in order.
    ///
    /// # Errors
    /// [`EngineError::Input`] if not even one image fits.
    pub fn dispatches(&self, [batch, height, width]: [usize; 3]) -> Result<Vec<DispatchSummary>, EngineError> {
        let images = self.images_at_once([height, width])?.min(batch);
        let listing = Listing::new(&self.steps, self.gpu.kind, self.storage, [images, height, width]);
        Ok(listing.dispatches.iter().map(|planned| planned.summary()).collect())
    }

    /// A batch runs in pieces, since a buffer is limited, and the time of a submission should be.
    fn images_at_once(&self, [height, width]: [usize; 2]) -> Result<usize, EngineError> {
        let pixels = height.checked_mul(width).filter(|pixels| *pixels <= MOST_PIXELS);
        pixels.ok_or_else(|| too_large([height, width]))?;
        match listing::images_at_once(
            &self.steps,
            self.gpu.kind,
            self.storage,
            self.gpu.largest_buffer,
            [height, width],
        ) {
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
        let mut encoder = self.gpu.encoder();
        match input {
            Input::Pixels(images) => {
                self.gpu.queue.write_buffer(&layout.upload, 0, &bytes(images, layout.shape, first));
                layout.normalise.encode(&mut encoder.begin_compute_pass(&Default::default()));
            }
            Input::Normalised(images) => {
                let [batch, height, width] = layout.shape;
                let (image, shape) = (3 * height * width, &layout.shapes[Plan::INPUT]);
                let values = &images.values()[first * image..][..batch * image];
                // A GPU need not keep a NaN as one, so that it would be found among the logits.
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    return Err(self.gpu.failed(format!("the input holds {value}")));
                }
                let packed = shape.pack(values).map_err(|value| self.gpu.failed(format!("the input holds {value}")))?;
                self.gpu.queue.write_buffer(&layout.values[Plan::INPUT], 0, &packed);
            }
        }

        // A value that is asked for is copied before another one takes its buffer.
        let mut copies: Vec<Option<wgpu::Buffer>> = kept.iter().map(|_| None).collect();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for dispatch in &layout.dispatches {
            if dispatch.starts_submission {
                drop(pass);
                let before = std::mem::replace(&mut encoder, self.gpu.encoder());
                self.gpu.queue.submit([before.finish()]);
                pass = encoder.begin_compute_pass(&Default::default());
            }
            dispatch.encode(&mut pass);
            let Some(value) = dispatch.writes else { continue };
            for (kept, copy) in kept.iter().zip(&mut copies) {
                if self.taps.contains(&(kept.tap, value)) {
                    drop(pass);
                    let size = layout.shapes[value].bytes();
                    let to = self.gpu.buffer("kept", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
                    encoder.copy_buffer_to_buffer(&layout.values[value], 0, &to, 0, size);
                    *copy = Some(to);
                    pass = encoder.begin_compute_pass(&Default::default());
                }
            }
        }
        drop(pass);
        let (shape, values) = (layout.shapes.last(), layout.values.last());
        let (shape, values) = shape.zip(values).expect("a plan has values");
        let bytes = shape.bytes();
        encoder.copy_buffer_to_buffer(values, 0, &layout.readback, 0, bytes);
        if let Some(overflow) = &layout.overflow {
            encoder.copy_buffer_to_buffer(overflow, 0, &layout.readback, bytes, overflow.size());
        }
        self.gpu.queue.submit([encoder.finish()]);

        let read = self.gpu.read(&layout.readback).await?;
        let (values, overflow) = read.split_at(bytes as usize);
        if overflow.iter().any(|byte| *byte != 0) {
            return Err(self.gpu.failed("a value is larger than 65504, the largest f16"));
        }
        logits.extend(shape.unpack(values));
        for (kept, copy) in kept.iter_mut().zip(copies) {
            let value = self.taps.iter().find(|(tap, _)| *tap == kept.tap).map(|(_, value)| *value);
            let shape = &layout.shapes[value.expect("all taps are listed")];
            let copy = copy.expect("every tap is written by some step");
            kept.values.extend(shape.unpack(&self.gpu.read(&copy).await?));
            kept.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
        }
        Ok(())
    }

    /// What another run has left, or a new one; for fewer images, if it must be.
    fn layout(&self, mut shape: [usize; 3]) -> Result<Layout, EngineError> {
        let [_, height, width] = shape;
        while shape[0] > 0 {
            let mut layouts = lock(&self.layouts);
            if let Some(index) = layouts.iter().position(|layout| layout.shape == shape) {
                return Ok(layouts.remove(index));
            }
            drop(layouts);
            let listing = Listing::new(&self.steps, self.gpu.kind, self.storage, shape);
            if listing.fits(self.gpu.largest_buffer) {
                return Ok(Layout::new(&self.gpu, listing, &self.steps, &self.weights, &self.last_reads));
            }
            shape[0] /= 2;
        }
        Err(too_large([height, width]))
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

/// A panic leaves the list as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
