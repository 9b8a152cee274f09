//! The plan on the processor's vector units, with kernels of our own: native and in WebAssembly.
//!
//! Weights are packed once. For every shape of input a [`Layout`] says where values lie and how work is cut; it is made
//! when the shape is first seen and kept. A run then takes an arena, walks the steps, and allocates nothing but its answer.
//! Neither threads nor the batch around an image change a bit of its logits.

mod arena;
mod blocked;
mod buffer;
mod choice;
mod input;
mod layout;
mod matrix;
mod pooling;
mod profile;
mod simd;
mod steps;
mod threads;
mod tile;
mod unroll;
mod winograd;

pub use profile::{OperationProfile, peak};
pub use simd::InstructionSet;

use super::{Device, EngineError, Input, Kept, Logits, Output};
use crate::plan::{Plan, Tap, Value};
use buffer::{Buffer, Target};
use layout::{Layout, Schedule};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use steps::{Step, Work};
use threads::{Scratch, Threads};
use tile::Epilogue;
use web_time::Instant;

/// Layouts kept for shapes seen before.
const LAYOUTS: usize = 16;

/// How the engine runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuOptions {
    /// As many as there are cores, if not given. WebAssembly has one.
    pub threads: Option<NonZero<usize>>,
    /// The best of the processor, if not given.
    pub instruction_set: Option<InstructionSet>,
}

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
    /// Those that no run holds.
    memories: Mutex<Vec<Memory>>,
}

/// What a run works in.
struct Memory {
    arena: Buffer,
    scratch: Scratch,
    scratch_length: usize,
}

impl CpuEngine {
    pub fn prepare(plan: Plan, options: CpuOptions) -> Result<Self, EngineError> {
        let failed = |reason| EngineError::Failed { device: Device::Cpu, reason };
        let threads = Threads::new(options.threads.map(NonZero::get)).map_err(failed)?;
        let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
        let last_reads = plan.last_reads();
        let taps = Tap::ALL.map(|tap| (tap, plan.tap(tap)));
        let classes = plan.architecture.classes;
        let steps = steps::pack(plan, set, &threads);
        let (layouts, memories) = Default::default();
        Ok(CpuEngine { set, threads, steps, last_reads, taps, classes, layouts, memories })
    }

    pub fn run(&self, input: &Input, keep: &[Tap]) -> Result<Output, EngineError> {
        self.run_observed(input, keep, &mut |_, _| ())
    }

    /// A run's operations in the order of the network, each with its time.
    pub fn profile(&self, input: &Input) -> Result<Vec<OperationProfile>, EngineError> {
        let layout = self.layout(input.shape());
        let mut operations = Vec::with_capacity(self.steps.len());
        self.run_observed(input, &[], &mut |step, time| {
            operations.push(step.profile(&layout.shapes[step.output], time));
        })?;
        Ok(operations)
    }

    fn run_observed(
        &self,
        input: &Input,
        keep: &[Tap],
        observe: &mut (dyn FnMut(&Step, Duration) + Send),
    ) -> Result<Output, EngineError> {
        let layout = self.layout(input.shape());
        let mut memory = self.memory(&layout);
        let output = self.threads.enter(|| self.execute(&layout, &mut memory, input, keep, observe));
        lock(&self.memories).push(memory);
        output
    }

    fn execute(
        &self,
        layout: &Layout,
        memory: &mut Memory,
        input: &Input,
        keep: &[Tap],
        observe: &mut (dyn FnMut(&Step, Duration) + Send),
    ) -> Result<Output, EngineError> {
        let place = &layout.places[Plan::INPUT];
        layout.image.fill(input, &mut memory.arena[place.clone()], &self.threads);
        let mut kept = vec![None; keep.len()];
        for (step, schedule) in self.steps.iter().zip(&layout.schedules) {
            let start = Instant::now();
            self.step(step, schedule, layout, memory);
            observe(step, start.elapsed());
            for (kept, &tap) in kept.iter_mut().zip(keep) {
                if self.taps.contains(&(tap, step.output)) {
                    let shape = &layout.shapes[step.output];
                    let values = shape.unpack(&memory.arena[layout.places[step.output].clone()]);
                    let shape = [shape.batch, shape.channels, shape.height, shape.width];
                    *kept = Some(Kept { tap, values, shape });
                }
            }
        }
        let logits = self.steps.last().expect("a plan has operations").output;
        let values = layout.shapes[logits].unpack(&memory.arena[layout.places[logits].clone()]);
        let logits = Logits::new(values, [layout.shape[0], self.classes], Device::Cpu)?;
        let kept = kept.into_iter().map(|kept| kept.expect("every tap is written by some step")).collect();
        Ok(Output { logits, kept })
    }

    fn step(&self, step: &Step, schedule: &Schedule, layout: &Layout, memory: &mut Memory) {
        let (set, threads) = (self.set, &self.threads);
        let place = |value: Value| layout.places[value].clone();
        let shared = match schedule {
            Schedule::Winograd(_, shared) => shared.clone(),
            Schedule::Matrix(_) | Schedule::Pool => 0..0,
        };
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
        match (&step.work, schedule) {
            (Work::Matrix(weights, bias), Schedule::Matrix(schedule)) => {
                let epilogue = epilogue(bias);
                matrix::Convolution { weights, schedule, input, epilogue }.run(set, threads);
            }
            (Work::Winograd(weights, bias), Schedule::Winograd(schedule, _)) => {
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
        if let Some(layout) = layouts.iter().find(|layout| layout.shape == shape) {
            return layout.clone();
        }
        let layout = Layout::new(&self.steps, &self.last_reads, shape, self.set, self.threads.count());
        let layout = Arc::new(layout);
        if layouts.len() == LAYOUTS {
            layouts.remove(0);
        }
        layouts.push(layout.clone());
        layout
    }

    /// Memory for a layout: what another run has left, if it is large enough.
    fn memory(&self, layout: &Layout) -> Memory {
        let left = lock(&self.memories).pop();
        match left {
            Some(memory) if memory.arena.len() >= layout.arena && memory.scratch_length >= layout.scratch => memory,
            left => {
                let (arena, scratch) = left.map_or((0, 0), |memory| (memory.arena.len(), memory.scratch_length));
                let (arena, scratch_length) = (arena.max(layout.arena), scratch.max(layout.scratch));
                let scratch = Scratch::new(&self.threads, scratch_length);
                Memory { arena: Buffer::zeroed(arena), scratch, scratch_length }
            }
        }
    }
}

/// A run that panics takes its memory with it, so what is left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
