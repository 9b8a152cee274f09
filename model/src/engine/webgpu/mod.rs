//! The plan on a GPU through WebGPU, with kernels of our own: in a browser and, on Vulkan, Metal or Direct3D, natively.
//!
//! Weights are uploaded once. For every shape of input a [`Layout`] holds buffers, bind groups and pipelines; it is made when
//! the shape is first seen and kept. A run then writes the bytes of its images, submits one list of dispatches, and reads the
//! logits back: nothing else crosses the bus.

mod choice;
mod gpu;
mod layout;
mod planes;
mod shaders;
mod steps;

use super::{Device, EngineError, Input, Kept, Logits, Output};
use crate::plan::{Plan, Tap, Value};
use crate::preprocess::ImageBatch;
use gpu::Gpu;
use layout::Layout;
use std::sync::{Mutex, MutexGuard, PoisonError};
use steps::Step;
use wgpu::BufferUsages;

/// Layouts kept for shapes seen before.
const LAYOUTS: usize = 4;

/// Images of a submission: enough for a GPU to be busy, few enough for no watchdog to mind.
const IMAGES: usize = 16;
/// The pixels of an image for which that is meant.
const PIXELS: usize = 224 * 224;

/// No buffer holds the values of more.
const MOST_PIXELS: usize = 1 << 26;

/// A plan with its weights on a GPU.
pub(super) struct WebGpuEngine {
    gpu: Gpu,
    steps: Vec<Step>,
    /// By value: the last step that reads it.
    last_reads: Vec<Option<usize>>,
    taps: [(Tap, Value); Tap::ALL.len()],
    classes: usize,
    /// Those that no run holds; the one that was used last stands last.
    layouts: Mutex<Vec<Layout>>,
}

impl WebGpuEngine {
    /// On the adapter of an index natively, in a browser on the one that it gives.
    pub async fn prepare(plan: Plan, name: Device, index: usize) -> Result<Self, EngineError> {
        let gpu = Gpu::open(name, index).await?;
        let last_reads = plan.last_reads();
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let classes = plan.architecture.classes;
        let steps = plan.operations.into_iter().map(|operation| Step::new(operation, &gpu)).collect();
        gpu.check()?;
        Ok(WebGpuEngine { gpu, steps, last_reads, taps, classes, layouts: Mutex::default() })
    }

    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        let piece = self.images_of_a_piece([height, width])?.min(batch);
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut kept: Vec<Kept> =
            keep.iter().map(|&tap| Kept { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        for first in (0..batch).step_by(piece) {
            let layout = self.layout([piece.min(batch - first), height, width]);
            self.execute(&layout, (input, first), (&mut logits, &mut kept)).await?;
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

    /// A batch runs in pieces, since a buffer is limited, and the time of a submission should be.
    fn images_of_a_piece(&self, [height, width]: [usize; 2]) -> Result<usize, EngineError> {
        let too_large = || EngineError::Input(format!("images of {height}x{width} are too large for this GPU"));
        let pixels = height.checked_mul(width).filter(|pixels| *pixels <= MOST_PIXELS).ok_or_else(too_large)?;
        let of_a_buffer = self.gpu.largest_buffer / layout::largest_buffer(&self.steps, [height, width]);
        match usize::try_from(of_a_buffer) {
            Ok(0) => Err(too_large()),
            images => Ok(images.unwrap_or(usize::MAX).min((IMAGES * PIXELS / pixels).max(1))),
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
                let packed = shape.pack(values);
                self.gpu.queue.write_buffer(&layout.values[Plan::INPUT], 0, bytemuck::cast_slice(&packed));
            }
        }

        // A value that is asked for is copied before another one takes its buffer.
        let mut copies: Vec<Option<wgpu::Buffer>> = kept.iter().map(|_| None).collect();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (step, dispatch) in self.steps.iter().zip(&layout.dispatches) {
            dispatch.encode(&mut pass);
            for (kept, copy) in kept.iter().zip(&mut copies) {
                if self.taps.contains(&(kept.tap, step.output)) {
                    drop(pass);
                    let size = layout.shapes[step.output].bytes();
                    let to = self.gpu.buffer("kept", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
                    encoder.copy_buffer_to_buffer(&layout.values[step.output], 0, &to, 0, size);
                    *copy = Some(to);
                    pass = encoder.begin_compute_pass(&Default::default());
                }
            }
        }
        drop(pass);
        let (shape, values) = (layout.shapes.last(), layout.values.last());
        let (shape, values) = shape.zip(values).expect("a plan has values");
        encoder.copy_buffer_to_buffer(values, 0, &layout.readback, 0, shape.bytes());
        self.gpu.queue.submit([encoder.finish()]);

        logits.extend(shape.unpack(&self.gpu.read(&layout.readback).await?));
        for (kept, copy) in kept.iter_mut().zip(copies) {
            let value = self.taps.iter().find(|(tap, _)| *tap == kept.tap).map(|(_, value)| *value);
            let shape = &layout.shapes[value.expect("all taps are listed")];
            let copy = copy.expect("every tap is written by some step");
            kept.values.extend(shape.unpack(&self.gpu.read(&copy).await?));
            kept.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
        }
        Ok(())
    }

    /// What another run has left, or a new one.
    fn layout(&self, shape: [usize; 3]) -> Layout {
        let mut layouts = lock(&self.layouts);
        let left = layouts.iter().position(|layout| layout.shape == shape).map(|index| layouts.remove(index));
        drop(layouts);
        left.unwrap_or_else(|| Layout::new(&self.gpu, &self.steps, &self.last_reads, shape))
    }
}

/// Mean, standard deviation and the images from `first` on, as the kernel reads them.
fn bytes(images: &ImageBatch, [batch, height, width]: [usize; 3], first: usize) -> Vec<u8> {
    let image = height * width * 3;
    let pixels = &images.pixels()[first * image..][..batch * image];
    let header: [f32; layout::HEADER] = {
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

#[cfg(test)]
mod tests {
    use super::choice::Adapter;
    use super::*;
    use crate::architecture::Architecture;
    use crate::random;
    use pollster::block_on;

    /// A machine without a GPU has only the tiles of emulated adapters tested otherwise.
    #[test]
    fn every_kind_of_adapters_tiles_compute_the_same() {
        let name = Device::WebGpu(0);
        for (network, shape) in [("resnet18", [1, 96, 75]), ("resnet50", [2, 64, 64]), ("resnext50_32x4d", [1, 65, 64])]
        {
            let checkpoint = random::checkpoint(Architecture::new(network, 10).unwrap());
            let pixels = random::pixels(3, shape.iter().product::<usize>() * 3);
            let images = ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
            let input = Input::Pixels(images.unwrap());
            let [software, gpu] = [Adapter::Software, Adapter::Gpu].map(|adapter| {
                let mut engine = block_on(WebGpuEngine::prepare(Plan::new(&checkpoint), name, 0)).unwrap();
                engine.gpu.adapter = adapter;
                block_on(engine.run(&input, &[])).unwrap().logits.values
            });
            let largest = software.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let difference = software.iter().zip(&gpu).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(difference < 1e-5 * largest, "{network}: {difference} of {largest}");
        }
    }
}
