//! The plan on the processor's vector units, with kernels of our own: native and in WebAssembly.
//!
//! Weights are packed once. For every shape of input a [`Layout`] says where values lie and how work is cut; it is made
//! when the shape is first seen and kept. A run then takes memory, walks the steps for each piece of its batch, and
//! allocates nothing but its answer. Neither threads nor the batch around an image change a bit of its logits.

mod alone;
mod arena;
mod blocked;
mod buffer;
mod choice;
mod input;
mod layout;
mod matrix;
mod memory;
mod peak;
mod pooling;
mod precision;
mod simd;
mod steps;
mod threads;
mod tile;
mod unroll;
mod winograd;

pub use alone::Alone;
pub use choice::Algorithm;
pub use peak::peak;
pub use simd::InstructionSet;

pub use super::winograd::Scheme;
use super::{Device, EngineError, EngineOptions, Input, Kept, Logits, OperationProfile, Output, Precision};
use crate::plan::{Plan, Tap, Value};
use blocked::Blocked;
use buffer::Target;
use layout::{Layout, Schedule};
use memory::{Memories, Memory};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use steps::{Step, Work};
use threads::Threads;
use tile::Epilogue;
use web_time::Instant;

/// Layouts kept for shapes seen before.
const LAYOUTS: usize = 16;

/// Pixels of an image whose values fill the caches.
const NOMINAL_PIXELS: usize = 224 * 224;
/// Threads that one image keeps busy.
const THREADS_OF_AN_IMAGE: usize = 4;

/// The widest padding, both sides.
const PADDING: usize = 6;
/// All values of a run together never take more.
const BYTES_OF_A_PIXEL: usize = 2048;

/// Is told each step, the shape of its output, and how long it took.
type Observer<'a> = &'a mut (dyn FnMut(&Step, &Blocked, Duration) + Send);

/// A plan with its weights packed.
pub(super) struct CpuEngine {
    set: InstructionSet,
    threads: Threads,
    steps: Vec<Step>,
    /// By value: the last step that reads it.
    last_reads: Vec<Option<usize>>,
    taps: [(Tap, Value); Tap::ALL.len()],
    classes: usize,
    layouts: Mutex<Vec<Arc<Layout>>>,
    memories: Memories,
}

impl CpuEngine {
    pub fn prepare(plan: Plan, options: EngineOptions) -> Result<Self, EngineError> {
        // The plain set has bf16, but slowly: nobody gets that unasked.
        let default = options.instruction_set.is_none();
        if options.precision == Precision::Bf16 && default && !InstructionSet::best().has_bf16() {
            return Err(EngineError::Precision(Precision::Bf16));
        }
        let algorithms = steps::algorithms(&plan, options.precision);
        CpuEngine::new(plan, algorithms, options)
    }

    /// With an algorithm for each convolution.
    fn new(plan: Plan, algorithms: Vec<Algorithm>, options: EngineOptions) -> Result<Self, EngineError> {
        let failed = |reason| EngineError::Failed { device: Device::Cpu, reason };
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        if algorithms.contains(&Algorithm::MatrixBf16) && !set.has_pairs() {
            return Err(EngineError::Precision(Precision::Bf16));
        }
        let threads = Threads::new(options.threads.map(NonZero::get)).map_err(failed)?;
        let last_reads = plan.last_reads();
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let classes = plan.architecture.classes;
        let steps = steps::pack(plan, algorithms, set, &threads);
        let (layouts, memories) = (Mutex::default(), Memories::default());
        Ok(CpuEngine { set, threads, steps, last_reads, taps, classes, layouts, memories })
    }

    pub fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        self.run_observed(input, keep, &mut |_, _, _| ())
    }

    /// A run's operations in the order of the network, each with its time.
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

    fn run_observed(&self, input: &Input, keep: &[Tap], observe: Observer) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        let pixels = (height + PADDING).checked_mul(width + PADDING);
        if pixels.is_none_or(|pixels| pixels > isize::MAX as usize / BYTES_OF_A_PIXEL) {
            return Err(EngineError::Input(format!(
                "images of {height}x{width} are too large for this machine's memory"
            )));
        }
        let piece = self.images_of_a_piece(height * width).min(batch);
        let whole = self.layout([piece, height, width]);
        let rest = NonZero::new(batch % piece).map(|rest| self.layout([rest.get(), height, width]));
        // Fewer images now and then want more memory: what is alive together is packed otherwise.
        let wanted = rest.iter().fold(whole.memory, |wanted, rest| wanted.max(rest.memory));
        let mut memory = self.memories.take(wanted, &self.threads);
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut kept: Vec<Kept> =
            keep.iter().map(|&tap| Kept { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        for first in (0..batch).step_by(piece) {
            let layout = rest.as_ref().filter(|_| first + piece > batch).unwrap_or(&whole);
            self.threads.enter(|| self.execute(layout, &mut memory, (input, first), (&mut logits, &mut kept), observe));
        }
        self.memories.leave(memory, wanted, &self.threads);
        let logits = Logits::new(logits, [batch, self.classes], Device::Cpu)?;
        Ok(Output { logits, kept })
    }

    /// A batch runs in pieces, so that the values of the early layers stay in the caches; more threads need more images
    /// to have work.
    fn images_of_a_piece(&self, pixels: usize) -> usize {
        (NOMINAL_PIXELS / pixels).max(1) * self.threads.count().div_ceil(THREADS_OF_AN_IMAGE)
    }

    /// Runs as many images of an input as the layout is for, and appends what comes out.
    fn execute(
        &self,
        layout: &Layout,
        memory: &mut Memory,
        (input, first): (&Input, usize),
        (logits, kept): (&mut Vec<f32>, &mut [Kept]),
        observe: Observer,
    ) {
        let place = &layout.places[Plan::INPUT];
        layout.image.fill(input, first, &mut memory.arena[place.clone()], &self.threads);
        for (index, step) in self.steps.iter().enumerate() {
            let start = Instant::now();
            self.step(index, layout, memory);
            let (shape, place) = (&layout.shapes[step.output], &layout.places[step.output]);
            observe(step, shape, start.elapsed());
            for kept in kept.iter_mut().filter(|kept| self.taps.contains(&(kept.tap, step.output))) {
                shape.unpack(&memory.arena[place.clone()], &mut kept.values);
                kept.shape[1..].copy_from_slice(&[shape.channels, shape.height, shape.width]);
            }
        }
        let last = self.steps.last().expect("a plan has operations").output;
        layout.shapes[last].unpack(&memory.arena[layout.places[last].clone()], logits);
    }

    fn step(&self, index: usize, layout: &Layout, memory: &mut Memory) {
        let (set, threads, step) = (self.set, &self.threads, &self.steps[index]);
        let place = |value: Value| layout.places[value].clone();
        let shared = layout.shared[index].clone();
        let places = [place(step.input), place(step.output), step.residual.map_or(0..0, place), shared];
        let places = memory.arena.get_disjoint_mut(places).expect("what is alive together lies apart");
        let [input, output, residual, shared] = places;
        let (input, residual) = (&*input, &*residual);
        let (input_shape, shape) = (&layout.shapes[step.input], &layout.shapes[step.output]);
        for plane in output.chunks_exact_mut(shape.plane()) {
            shape.clear_border(plane);
        }

        let output = Target::new(output);
        let epilogue = |bias| {
            let residual = step.residual.map(|value| (residual, &layout.shapes[value]));
            Epilogue { bias, residual, relu: step.relu, output, shape }
        };
        match (&step.work, &layout.schedules[index]) {
            (Work::Matrix(weights, bias), Schedule::Matrix(schedule)) => {
                let epilogue = epilogue(bias);
                matrix::Convolution { weights, schedule, input, epilogue }.run(set, threads, shared);
            }
            (Work::Winograd(weights, bias), Schedule::Winograd(schedule)) => {
                let epilogue = epilogue(bias);
                let convolution = winograd::Convolution { weights, schedule, input, input_shape, epilogue };
                convolution.run(set, threads, shared, &memory.scratch);
            }
            (Work::MaxPool(pool), _) => {
                pooling::Max { pool: *pool, input, input_shape, output, output_shape: shape }.run(set, threads);
            }
            (Work::Average, _) => {
                pooling::Average { input, input_shape, output, output_shape: shape }.run(set, threads);
            }
            _ => unreachable!("a schedule belongs to its step"),
        }
    }

    fn layout(&self, shape: [usize; 3]) -> Arc<Layout> {
        let mut layouts = lock(&self.layouts);
        let layout = match layouts.iter().position(|layout| layout.shape == shape) {
            Some(index) => layouts.remove(index),
            None => {
                let threads = self.threads.count();
                Arc::new(Layout::new(&self.steps, &self.last_reads, shape, self.set, threads))
            }
        };
        // The one that was used last stands last.
        if layouts.len() == LAYOUTS {
            layouts.remove(0);
        }
        layouts.push(layout.clone());
        layout
    }
}

/// What is behind these locks is whole even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
