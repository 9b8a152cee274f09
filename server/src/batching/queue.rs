//! The queue of a model: decides which engine takes which images, and when.

use super::batch::Batch;
use super::batch_sizes::BatchSizes;
use super::job::{InferenceFailure, Job};
use model::engine::Input;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant, replace};
use std::time::Duration;

/// Options of a batcher.
#[derive(Clone, Copy, Debug)]
pub struct BatchingOptions {
    /// Maximum number of queued images.
    pub queue_size: usize,
    /// How long an idle engine waits for a batch to fill, counted from when its first image was queued.
    pub max_delay: Duration,
}

/// Number of images that wait for an engine.
#[derive(Clone, Copy, Debug)]
pub struct QueueDepth {
    pub queued: usize,
    /// Images in batches that were taken off the queue for busy engines.
    pub prefetched: usize,
}

impl QueueDepth {
    pub fn total(self) -> usize {
        self.queued + self.prefetched
    }
}

pub struct Queue {
    state: Mutex<QueueState>,
    /// Wakes idle engines.
    work_available: Condvar,
    /// Wakes the threads that prefetch batches.
    prefetch_needed: Condvar,
    options: BatchingOptions,
}

struct QueueState {
    waiting: VecDeque<Job>,
    engines: Vec<EngineSlot>,
    /// Whether every engine can run a batch that was prefetched for another one, because all have the same batch sizes.
    interchangeable: bool,
    /// Number of engines whose threads have not ended.
    running_engines: usize,
    closed: bool,
}

/// State of one engine.
struct EngineSlot {
    state: EngineState,
    prefetch: Prefetch,
    /// Largest batch that the engine is warmed up for.
    max_batch: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum EngineState {
    /// Does not take images yet: if the engine never becomes ready, they would be lost.
    Starting,
    Idle,
    Busy,
    /// The engine's thread has ended.
    Stopped,
}

/// The batch that is prepared for an engine while it runs another one.
enum Prefetch {
    Empty,
    /// Being stacked from this number of images.
    InProgress(usize),
    Ready(Batch),
}

/// Work for an engine.
pub enum Work {
    Batch(Batch),
    /// Jobs to stack into a batch.
    Jobs(Vec<Job>),
    /// Nothing to do at the moment.
    Nothing,
    /// The queue is closed and empty.
    Finished,
}

/// Time at which an idle engine may take the next work.
enum Availability {
    Now,
    /// After this time, unless the queue changes before.
    After(Duration),
    /// As soon as the queue changes.
    OnChange,
}

impl Queue {
    /// Creates a queue for engines with these batch sizes.
    pub fn new(options: BatchingOptions, engines: impl IntoIterator<Item = BatchSizes>) -> Self {
        let slot = |sizes: BatchSizes| {
            let max_batch = if sizes.padded { 1 } else { sizes.max };
            EngineSlot { state: EngineState::Starting, prefetch: Prefetch::Empty, max_batch }
        };
        let sizes: Vec<BatchSizes> = engines.into_iter().collect();
        let interchangeable = sizes.windows(2).all(|pair| pair[0] == pair[1]);
        let engines: Vec<EngineSlot> = sizes.into_iter().map(slot).collect();
        let running_engines = engines.len();
        let state = QueueState { waiting: VecDeque::new(), engines, interchangeable, running_engines, closed: false };
        Queue { state: Mutex::new(state), work_available: Condvar::new(), prefetch_needed: Condvar::new(), options }
    }

    /// Appends all jobs, or none of them.
    ///
    /// # Errors
    /// Returns [`InferenceFailure::QueueFull`] if there is no room for all, and [`InferenceFailure::EngineStopped`] if
    /// the queue is closed.
    pub fn push(&self, jobs: Vec<Job>) -> Result<(), InferenceFailure> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(InferenceFailure::EngineStopped);
        }
        if state.is_full(jobs.len(), self.options.queue_size) {
            return Err(InferenceFailure::QueueFull);
        }
        state.waiting.extend(jobs);
        self.notify(&state);
        Ok(())
    }

    /// Marks the engine as idle and returns its next work: a batch prefetched for it or for another engine, otherwise
    /// queued jobs. Blocks until there is work if `may_wait` is set.
    pub fn next(&self, engine: usize, may_wait: bool) -> Work {
        let mut state = self.state.lock();
        state.engines[engine].state = EngineState::Idle;
        loop {
            state.remove_abandoned();
            let prefetched = state.find_prefetched(engine);
            let availability = match state.engines[engine].prefetch {
                _ if prefetched.is_some() => Availability::Now,
                Prefetch::InProgress(_) => Availability::OnChange,
                _ if state.waiting.is_empty() && state.closed => return Work::Finished,
                _ => self.availability(&state, engine),
            };
            match availability {
                Availability::Now => {
                    let prefetched = prefetched.map(|slot| replace(&mut state.engines[slot].prefetch, Prefetch::Empty));
                    let work = match prefetched {
                        Some(Prefetch::Ready(batch)) => Work::Batch(batch),
                        _ => Work::Jobs(state.take_jobs(engine)),
                    };
                    state.engines[engine].state = EngineState::Busy;
                    // If no engine is idle any more, another batch can be prefetched.
                    self.notify(&state);
                    return work;
                }
                _ if !may_wait => {
                    state.engines[engine].state = EngineState::Busy;
                    return Work::Nothing;
                }
                Availability::After(delay) => {
                    self.work_available.wait_for(&mut state, delay);
                }
                Availability::OnChange => self.work_available.wait(&mut state),
            }
        }
    }

    /// Blocks until a batch should be prefetched for this engine, and returns its jobs, all of the same kind and size;
    /// the caller passes the batch to [`Queue::store_prefetched`]. Returns `None` when there is nothing more to
    /// prefetch.
    pub fn prefetch(&self, engine: usize) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        loop {
            state.remove_abandoned();
            if state.waiting.is_empty() && state.closed || state.engines[engine].state == EngineState::Stopped {
                return None;
            }
            if state.needs_prefetch(engine) {
                let jobs = state.take_jobs(engine);
                state.engines[engine].prefetch = Prefetch::InProgress(jobs.len());
                return Some(jobs);
            }
            self.prefetch_needed.wait(&mut state);
        }
    }

    /// Stores a prefetched batch, or `None` if its images could not be stacked.
    pub fn store_prefetched(&self, engine: usize, batch: Option<Batch>) {
        let mut state = self.state.lock();
        if state.engines[engine].state != EngineState::Stopped {
            state.engines[engine].prefetch = batch.map_or(Prefetch::Empty, Prefetch::Ready);
        }
        self.notify(&state);
    }

    /// Records that the engine is warmed up for batches of up to `max_batch` images.
    pub fn set_max_batch(&self, engine: usize, max_batch: usize) {
        let mut state = self.state.lock();
        state.engines[engine].max_batch = max_batch;
        self.notify(&state);
    }

    /// Rejects further jobs; those already queued are still processed.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.notify(&state);
    }

    /// Removes an engine that failed to start or whose thread has ended. When the last one is removed, all queued jobs
    /// are dropped.
    pub fn remove_engine(&self, engine: usize) {
        let mut state = self.state.lock();
        let slot = &mut state.engines[engine];
        (slot.state, slot.prefetch) = (EngineState::Stopped, Prefetch::Empty);
        state.running_engines -= 1;
        if state.running_engines == 0 {
            state.closed = true;
            state.waiting.clear();
        }
        self.notify(&state);
        self.prefetch_needed.notify_all();
    }

    /// Returns whether the threads of all engines are running.
    pub fn is_alive(&self) -> bool {
        let state = self.state.lock();
        state.running_engines == state.engines.len()
    }

    pub fn depth(&self) -> QueueDepth {
        let state = self.state.lock();
        let prefetched = state.engines.iter().map(|slot| match &slot.prefetch {
            Prefetch::Empty => 0,
            Prefetch::InProgress(images) => *images,
            Prefetch::Ready(batch) => batch.images(),
        });
        QueueDepth { queued: state.waiting.len(), prefetched: prefetched.sum() }
    }

    /// Returns whether there is no room for `images` more images.
    pub fn is_full(&self, images: usize) -> bool {
        self.state.lock().is_full(images, self.options.queue_size)
    }

    fn availability(&self, state: &QueueState, engine: usize) -> Availability {
        let Some(first) = state.waiting.front() else { return Availability::OnChange };
        if state.closed || state.has_full_batch(engine) {
            return Availability::Now;
        }
        match self.options.max_delay.saturating_sub(first.queued_at.elapsed()) {
            Duration::ZERO => Availability::Now,
            delay => Availability::After(delay),
        }
    }

    /// Wakes the engines if one is idle, and the prefetching threads if a batch is to be prefetched. The conditions are
    /// checked because waking a thread costs more than everything else that happens here.
    fn notify(&self, state: &QueueState) {
        if state.engines.iter().any(|slot| slot.state == EngineState::Idle) {
            self.work_available.notify_all();
        }
        if state.closed || (0..state.engines.len()).any(|engine| state.needs_prefetch(engine)) {
            self.prefetch_needed.notify_all();
        }
    }
}

impl QueueState {
    /// Returns whether a queue of at most `limit` images has no room for `images` more.
    fn is_full(&mut self, images: usize, limit: usize) -> bool {
        if self.waiting.len() + images > limit {
            self.remove_abandoned();
        }
        self.waiting.len() + images > limit
    }

    /// Removes jobs whose receiver was dropped, so that no engine spends time on them.
    fn remove_abandoned(&mut self) {
        self.waiting.retain(|job| !job.is_abandoned());
    }

    /// Returns whether to prefetch a batch for this engine: a full one is queued and no engine is idle to run it
    /// immediately.
    fn needs_prefetch(&self, engine: usize) -> bool {
        let slot = &self.engines[engine];
        slot.state == EngineState::Busy
            && matches!(slot.prefetch, Prefetch::Empty)
            && self.engines.iter().all(|slot| slot.state != EngineState::Idle)
            && self.has_full_batch(engine)
    }

    /// Returns the slot with the prefetched batch that this engine should run: its own, or that of a busy engine.
    fn find_prefetched(&self, engine: usize) -> Option<usize> {
        let max_batch = self.engines[engine].max_batch;
        let fits = |slot: &usize| match &self.engines[*slot].prefetch {
            Prefetch::Ready(batch) => *slot == engine || self.interchangeable && batch.padded_size() <= max_batch,
            _ => false,
        };
        std::iter::once(engine).chain(0..self.engines.len()).find(fits)
    }

    fn has_full_batch(&self, engine: usize) -> bool {
        let max_batch = self.engines[engine].max_batch;
        let first = self.waiting.front().map(batch_key);
        self.waiting.iter().filter(|job| Some(batch_key(job)) == first).take(max_batch).count() == max_batch
    }

    /// Takes the first job and those that can share a batch with it, up to the engine's largest batch.
    fn take_jobs(&mut self, engine: usize) -> Vec<Job> {
        let max_batch = self.engines[engine].max_batch;
        let first = self.waiting.front().map(batch_key);
        let (mut jobs, mut index) = (Vec::new(), 0);
        while jobs.len() < max_batch
            && let Some(job) = self.waiting.get(index)
        {
            if Some(batch_key(job)) == first {
                jobs.extend(self.waiting.remove(index));
            } else {
                index += 1;
            }
        }
        jobs
    }
}

/// Images can share a batch if they are of the same kind (pixels or normalised tensors) and size.
fn batch_key(job: &Job) -> (Discriminant<Input>, [usize; 2]) {
    let [_, height, width] = job.input.shape();
    (discriminant(&job.input), [height, width])
}
