//! The CPU engine: executes a plan with SIMD kernels, natively and in WebAssembly.
//!
//! Weights are packed once. For each input shape, an [`ExecutionLayout`] holds where values lie in memory and how work
//! is split into tasks; it is built when the shape is first used, and cached. A run then acquires a workspace, executes
//! the steps for one chunk of its batch after the other, and allocates nothing but its output. The logits of an image
//! are bit-identical for any number of threads and any batch around the image.

// Pages do not train, and `crate::training` uses more of the kernels than the engine. They have no matrix unit either, so
// code that multiplies tiles is unreachable.
#![cfg_attr(target_arch = "wasm32", allow(dead_code, unreachable_code, unused_imports, unused_mut, unused_variables))]

pub(crate) mod algorithm;
pub(crate) mod amx;
mod arena;
mod bf16_pairs;
pub(crate) mod blocked_shape;
pub(crate) mod buffer;
pub(crate) mod convolution_output;
pub(crate) mod direct_conv;
mod execution_layout;
pub(crate) mod filter;
#[cfg(not(target_arch = "wasm32"))]
mod flush_to_zero;
pub(crate) mod microkernel;
pub(crate) mod padded_image;
mod peak;
mod pooling;
pub(crate) mod simd;
mod single_convolution;
mod steps;
pub(crate) mod thread_pool;
pub(crate) mod winograd;
mod workspace;

pub use super::winograd::WinogradVariant;
pub use algorithm::Algorithm;
pub use peak::measure_peak;
pub use simd::InstructionSet;
pub use single_convolution::SingleConvolution;

use super::{Activation, Device, EngineError, EngineOptions, Input, Logits, OperationProfile, Output, Precision};
use crate::plan::{Plan, Tap, TapValues, ValueId};
use blocked_shape::BlockedShape;
use buffer::SharedMutSlice;
use convolution_output::{ConvolutionOutput, PixelGrid};
use execution_layout::{ExecutionLayout, StepSchedule};
use parking_lot::Mutex;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;
use steps::{PackedOperation, Step};
use thread_pool::ThreadPool;
use web_time::Instant;
use workspace::{Workspace, WorkspacePool};

/// Number of input shapes whose layouts are cached.
const MAX_CACHED_LAYOUTS: usize = 16;

/// Pixels of an image whose values fill the caches.
const NOMINAL_PIXELS: usize = 224 * 224;
/// Number of threads that one image keeps busy.
const THREADS_PER_IMAGE: usize = 4;

/// Upper bound of the padding of any layer, on both sides together.
const MAX_PADDING: usize = 6;
/// Upper bound of the bytes that all values of a run take per pixel of the input.
const MAX_BYTES_PER_PIXEL: usize = 2048;

/// Callback for each step. It receives the step, the shape of its output, and the time that it took.
type StepObserver<'a> = &'a mut (dyn FnMut(&Step, &BlockedShape, Duration) + Send);

/// A plan whose weights are packed for an instruction set.
pub(super) struct CpuEngine {
    set: InstructionSet,
    threads: ThreadPool,
    steps: Vec<Step>,
    /// Index of the last step that reads each value.
    last_reads: Vec<Option<usize>>,
    tap_values: TapValues,
    classes: usize,
    /// Layouts of input shapes, the most recently used one last.
    layouts: Mutex<Vec<Arc<ExecutionLayout>>>,
    workspaces: WorkspacePool,
}

impl CpuEngine {
    pub fn prepare(plan: Plan, options: EngineOptions) -> Result<Self, EngineError> {
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        // The scalar instruction set emulates bf16 slowly, so it must be chosen explicitly.
        let has_bf16 = if options.instruction_set.is_some() { set.has_bf16_pairs() } else { set.supports_bf16() };
        if options.precision == Precision::Bf16 && !has_bf16 {
            return Err(EngineError::UnsupportedPrecision(Precision::Bf16));
        }
        let algorithms = algorithm::choose(&plan, options.precision, set);
        CpuEngine::new(plan, algorithms, options)
    }

    /// Packs a plan, with an algorithm for each convolution.
    fn new(plan: Plan, algorithms: Vec<Algorithm>, options: EngineOptions) -> Result<Self, EngineError> {
        let failed = |reason| EngineError::Failed { device: Device::Cpu, reason };
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let is_supported = |algorithm: &Algorithm| match algorithm {
            Algorithm::Direct | Algorithm::Winograd(_) => true,
            Algorithm::DirectBf16 => set.has_bf16_pairs(),
            Algorithm::AmxBf16 => set.matrix_unit().is_some(),
        };
        if !algorithms.iter().all(is_supported) {
            return Err(EngineError::UnsupportedPrecision(Precision::Bf16));
        }
        let threads = ThreadPool::new(options.threads.map(NonZero::get)).map_err(failed)?;
        let last_reads = plan.last_reads();
        let tap_values = plan.tap_values().clone();
        let classes = plan.architecture.classes;
        let steps = steps::pack(plan, algorithms, set, &threads);
        let (layouts, workspaces) = (Mutex::default(), WorkspacePool::default());
        Ok(CpuEngine { set, threads, steps, last_reads, tap_values, classes, layouts, workspaces })
    }

    pub fn tap_values(&self) -> &TapValues {
        &self.tap_values
    }

    pub fn run(&self, input: &Input, taps: &[Tap]) -> Result<Output, EngineError> {
        self.run_observed(input, taps, &mut |_, _, _| ())
    }

    /// Runs once and returns the operations in the order of the network, each with its time.
    pub fn profile(&self, input: &Input) -> Result<Vec<OperationProfile>, EngineError> {
        let mut operations: Vec<OperationProfile> = Vec::with_capacity(self.steps.len());
        self.run_observed(input, &[], &mut |step, shape, time| {
            let operation = step.profile(shape, time);
            match operations.iter_mut().find(|other| other.name == operation.name) {
                Some(sum) => sum.add(&operation),
                None => operations.push(operation),
            }
        })?;
        Ok(operations)
    }

    fn run_observed(&self, input: &Input, taps: &[Tap], observe: StepObserver) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        let pixels = (height + MAX_PADDING).checked_mul(width + MAX_PADDING);
        if pixels.is_none_or(|pixels| pixels > isize::MAX as usize / MAX_BYTES_PER_PIXEL) {
            return Err(EngineError::InvalidInput(format!(
                "images of {height}x{width} are too large for this machine's memory"
            )));
        }
        let chunk = self.images_per_chunk(height * width).min(batch);
        let whole = self.layout([chunk, height, width]);
        let rest = NonZero::new(batch % chunk).map(|rest| self.layout([rest.get(), height, width]));
        // Fewer images occasionally need more memory, because values with overlapping lifetimes are placed differently.
        let size = rest.iter().fold(whole.workspace_size, |size, rest| size.max(rest.workspace_size));
        let mut workspace = self.workspaces.acquire(size, &self.threads);
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut activations: Vec<Activation> =
            taps.iter().map(|&tap| Activation { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        for first in (0..batch).step_by(chunk) {
            let layout = rest.as_ref().filter(|_| first + chunk > batch).unwrap_or(&whole);
            self.threads.install(|| {
                self.execute(layout, &mut workspace, (input, first), (&mut logits, &mut activations), observe)
            });
        }
        self.workspaces.release(workspace, size, &self.threads);
        let logits = Logits::new(logits, [batch, self.classes], Device::Cpu)?;
        Ok(Output { logits, activations })
    }

    /// Returns the number of images that run together. A batch runs in chunks, so that the values of the early layers
    /// stay in the caches; with more threads, a chunk has more images, so that every thread has work.
    fn images_per_chunk(&self, pixels: usize) -> usize {
        (NOMINAL_PIXELS / pixels).max(1) * self.threads.count().div_ceil(THREADS_PER_IMAGE)
    }

    /// Runs the images of an input from `first` on, as many as the layout's batch, and appends logits and activations.
    fn execute(
        &self,
        layout: &ExecutionLayout,
        workspace: &mut Workspace,
        (input, first): (&Input, usize),
        (logits, activations): (&mut Vec<f32>, &mut [Activation]),
        observe: StepObserver,
    ) {
        let range = &layout.ranges[Plan::INPUT];
        layout.image.write_input(input, first, &mut workspace.arena[range.clone()], &self.threads);
        for (index, step) in self.steps.iter().enumerate() {
            let start = Instant::now();
            self.step(index, layout, workspace);
            let (shape, range) = (&layout.shapes[step.output], &layout.ranges[step.output]);
            observe(step, shape, start.elapsed());
            let is_output = |activation: &&mut Activation| self.tap_values.get(activation.tap) == Some(step.output);
            for activation in activations.iter_mut().filter(is_output) {
                shape.unpack_nchw(&workspace.arena[range.clone()], &mut activation.values);
                activation.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
            }
        }
        let last = self.steps.last().expect("a plan has operations").output;
        layout.shapes[last].unpack_nchw(&workspace.arena[layout.ranges[last].clone()], logits);
    }

    /// Executes one step.
    fn step(&self, index: usize, layout: &ExecutionLayout, workspace: &mut Workspace) {
        let (set, threads, step) = (self.set, &self.threads, &self.steps[index]);
        let range = |value: ValueId| layout.ranges[value].clone();
        let shared = layout.shared_ranges[index].clone();
        let ranges = [range(step.input), range(step.output), step.residual.map_or(0..0, range), shared];
        let slices = workspace.arena.get_disjoint_mut(ranges).expect("values with overlapping lifetimes are disjoint");
        let [input, output, residual, shared] = slices;
        let (input, residual) = (&*input, &*residual);
        let (input_shape, shape) = (&layout.shapes[step.input], &layout.shapes[step.output]);
        for block in output.chunks_exact_mut(shape.block_stride()) {
            shape.clear_border(block);
        }

        let output = SharedMutSlice::new(output);
        let convolution_output = |bias| {
            let residual = step.residual.map(|value| (residual, &layout.shapes[value]));
            ConvolutionOutput { bias, residual, relu: step.relu, values: output, shape, grid: PixelGrid::all(shape) }
        };
        match (&step.operation, &layout.schedules[index]) {
            (PackedOperation::Direct(weights, bias), StepSchedule::Direct(schedule)) => {
                let output = convolution_output(bias);
                direct_conv::DirectConvolution { weights, schedule, input, output }.run(set, threads, shared);
            }
            (PackedOperation::Amx(weights, bias), StepSchedule::Amx(schedule)) => {
                let output = convolution_output(bias);
                amx::AmxConvolution { weights, schedule, input, output }.run(set, threads, shared);
            }
            (PackedOperation::Winograd(weights, bias), StepSchedule::Winograd(schedule)) => {
                let output = convolution_output(bias);
                let convolution = winograd::WinogradConvolution { weights, schedule, input, input_shape, output };
                convolution.run(set, threads, shared, &workspace.scratch);
            }
            (PackedOperation::MaxPool(pool), _) => {
                pooling::MaxPooling { pool: *pool, input, input_shape, output, output_shape: shape }.run(set, threads);
            }
            (PackedOperation::GlobalAveragePool, _) => {
                pooling::GlobalAveragePooling { input, input_shape, output, output_shape: shape }.run(set, threads);
            }
            _ => unreachable!("the schedule belongs to another operation"),
        }
    }

    /// Returns the layout for inputs of shape `[batch, height, width]`.
    fn layout(&self, shape: [usize; 3]) -> Arc<ExecutionLayout> {
        let mut layouts = self.layouts.lock();
        let layout = match layouts.iter().position(|layout| layout.shape == shape) {
            Some(index) => layouts.remove(index),
            None => {
                let threads = self.threads.count();
                Arc::new(ExecutionLayout::new(&self.steps, &self.last_reads, shape, self.set, threads))
            }
        };
        if layouts.len() == MAX_CACHED_LAYOUTS {
            layouts.remove(0);
        }
        layouts.push(layout.clone());
        layout
    }
}
