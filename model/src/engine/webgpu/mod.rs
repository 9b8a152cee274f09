//! The plan on a GPU through WebGPU, with kernels of our own: in a browser and, on Vulkan, Metal or Direct3D, natively.
//!
//! Weights are uploaded once. For every shape of input a [`Layout`] holds buffers, bind groups and pipelines; it is made when
//! the shape is first seen and kept. A run then writes the bytes of its images, submits one list of dispatches, and reads the
//! logits back: nothing else crosses the bus.

mod adapter;
#[cfg(target_arch = "wasm32")]
mod ahead;
mod choice;
mod gpu;
mod layout;
mod pipelines;
mod planes;
mod shaders;
mod steps;

use super::{Device, EngineError, Input, Kept, Logits, Output};
use crate::plan::{Operation, Plan, Tap, Value};
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
    /// On the adapter of an index natively, in a browser on the one that it gives. The plan may be an outline, if
    /// [`fill`](Self::fill) brings the weights.
    pub async fn open(plan: &Plan, name: Device, index: usize) -> Result<Self, EngineError> {
        let gpu = Gpu::open(name, index).await?;
        let (steps, fine) =
            gpu.checked(|| plan.operations.iter().map(|operation| Step::new(operation, &gpu)).collect());
        fine.await?;
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let (last_reads, classes) = (plan.last_reads(), plan.architecture.classes);
        Ok(WebGpuEngine {
            steps: Result::from_iter::<Vec<_>>(steps)?,
            gpu,
            last_reads,
            taps,
            classes,
            layouts: Mutex::default(),
        })
    }

    /// Layer by layer, whose memory is given back in between.
    pub async fn prepare(plan: Plan, name: Device, index: usize) -> Result<Self, EngineError> {
        let engine = Self::open(&plan, name, index).await?;
        for (index, operation) in plan.operations.into_iter().enumerate() {
            engine.fill(index, &operation).await?;
        }
        Ok(engine)
    }

    /// Uploads the weights of an operation of the plan.
    pub async fn fill(&self, index: usize, operation: &Operation) -> Result<(), EngineError> {
        let ((), fine) = self.gpu.checked(|| self.steps[index].fill(operation, &self.gpu));
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
        let piece = self.images_of_a_piece([height, width])?.min(batch);
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut kept: Vec<Kept> =
            keep.iter().map(|&tap| Kept { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        for first in (0..batch).step_by(piece) {
            let layout = self.layout([piece.min(batch - first), height, width]).await?;
            self.execute(&layout, (input, first), (&mut logits, &mut kept)).await?;
            // Not if a run has failed in the middle: a buffer may be left mapped.
            self.put_back(layout);
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
        let (copies, submitted) = self.gpu.checked(|| self.submit(layout, (input, first), kept));
        // All are asked for before any is waited for.
        let reading = self.gpu.read(&layout.readback);
        let reading_copies: Vec<_> = copies.iter().map(|copy| self.gpu.read(copy)).collect();
        submitted.await?;
        let shape = layout.shapes.last().expect("a plan has values");
        logits.extend(shape.unpack(&reading.await?));
        for (kept, reading) in kept.iter_mut().zip(reading_copies) {
            let shape = &layout.shapes[self.value(kept.tap)];
            kept.values.extend(shape.unpack(&reading.await?));
            kept.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
        }
        Ok(())
    }

    /// Has it all computed, and copied to where it can be read: the logits in the layout, what is kept in buffers of its own.
    fn submit(&self, layout: &Layout, (input, first): (&Input, usize), kept: &[Kept]) -> Vec<wgpu::Buffer> {
        let mut encoder = self.gpu.encoder();
        match input {
            Input::Pixels(images) => {
                self.gpu.queue.write_buffer(&layout.upload, 0, &bytes(images, layout.shape, first));
                layout.normalise.encode(&mut encoder.begin_compute_pass(&Default::default()));
            }
            Input::Normalised(images) => {
                let [batch, height, width] = layout.shape;
                let image = 3 * height * width;
                let values = &images.values()[first * image..][..batch * image];
                self.gpu.write(&layout.values[Plan::INPUT], &layout.shapes[Plan::INPUT].pack(values));
            }
        }

        // A value that is asked for is copied before another one takes its buffer.
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let size = |value: Value| layout.shapes[value].bytes();
        let copies: Vec<_> =
            kept.iter().map(|kept| self.gpu.buffer("kept", size(self.value(kept.tap)), usage)).collect();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (step, dispatch) in self.steps.iter().zip(&layout.dispatches) {
            dispatch.encode(&mut pass);
            for (kept, copy) in kept.iter().zip(&copies) {
                if self.value(kept.tap) == step.output {
                    drop(pass);
                    encoder.copy_buffer_to_buffer(&layout.values[step.output], 0, copy, 0, size(step.output));
                    pass = encoder.begin_compute_pass(&Default::default());
                }
            }
        }
        drop(pass);
        let values = layout.values.last().expect("a plan has values");
        encoder.copy_buffer_to_buffer(values, 0, &layout.readback, 0, layout.readback.size());
        self.gpu.queue.submit([encoder.finish()]);
        copies
    }

    fn value(&self, tap: Tap) -> Value {
        let found = self.taps.iter().find(|(other, _)| *other == tap);
        found.expect("all taps are listed").1
    }

    /// What another run has left, or a new one.
    async fn layout(&self, shape: [usize; 3]) -> Result<Layout, EngineError> {
        let left = {
            let mut layouts = lock(&self.layouts);
            layouts.iter().position(|layout| layout.shape == shape).map(|index| layouts.remove(index))
        };
        match left {
            Some(layout) => Ok(layout),
            None => Layout::new(&self.gpu, &self.steps, &self.last_reads, shape).await,
        }
    }

    fn put_back(&self, layout: Layout) {
        let mut layouts = lock(&self.layouts);
        if layouts.len() == LAYOUTS {
            layouts.remove(0);
        }
        layouts.push(layout);
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

    fn random_images(shape: [usize; 3]) -> ImageBatch {
        let pixels = random::pixels(3, shape.iter().product::<usize>() * 3);
        ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap()
    }

    /// In the middle of its use: whoever asks then or later hears of the loss, and another engine can be made.
    #[test]
    fn a_device_that_is_lost_says_so_for_ever() {
        let name = Device::WebGpu(0);
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let images = Input::Pixels(random_images([1, 64, 64]));
        let engine = block_on(WebGpuEngine::prepare(Plan::new(&checkpoint), name, 0)).unwrap();
        let expected = block_on(engine.run(&images, &[])).unwrap();
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| (0..1000).find_map(|_| block_on(engine.run(&images, &[])).err()));
            std::thread::sleep(std::time::Duration::from_millis(30));
            engine.lose();
            let error = runs.join().unwrap().expect("a run fails");
            assert!(matches!(error, EngineError::Lost { .. }), "{error}");
        });
        let other = Input::Pixels(random_images([2, 40, 50]));
        for input in [&images, &other] {
            let error = block_on(engine.run(input, &Tap::ALL)).unwrap_err();
            assert!(matches!(error, EngineError::Lost { .. }), "{error}");
        }
        let another = block_on(WebGpuEngine::prepare(Plan::new(&checkpoint), name, 0)).unwrap();
        assert_eq!(block_on(another.run(&images, &[])).unwrap(), expected);
    }

    /// A machine without a GPU has only the tiles of emulated adapters tested otherwise.
    #[test]
    fn every_kind_of_adapters_tiles_compute_the_same() {
        let name = Device::WebGpu(0);
        for (network, shape) in [("resnet18", [1, 96, 75]), ("resnet50", [2, 64, 64]), ("resnext50_32x4d", [1, 65, 64])]
        {
            let checkpoint = random::checkpoint(Architecture::new(network, 10).unwrap());
            let input = Input::Pixels(random_images(shape));
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
