//! Images that wait, and which engine may take how many of them when.

use super::{BatchingOptions, Job, Sizes, Unanswered};
use model::engine::Input;
use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    options: BatchingOptions,
}

struct State {
    waiting: VecDeque<Job>,
    engines: Vec<Place>,
    /// Of these, those whose threads have not ended.
    living: usize,
    closed: bool,
}

/// What an engine wants.
#[derive(Clone, Copy)]
struct Place {
    /// One for what it is free to run now, none while it runs; below that, it has a batch ready.
    wants: i32,
    /// The largest batch that it is warm for.
    most: usize,
}

/// Of an engine that takes nothing more.
const GONE: i32 = i32::MIN;
/// Of an engine that takes nothing yet: it might never get ready, and what it had would be lost.
const COLD: i32 = GONE + 1;

/// When an engine may take what waits.
enum When {
    Now,
    /// Unless something changes before.
    In(Duration),
    /// When something changes.
    Later,
}

impl Queue {
    /// With the sizes of each engine's batches.
    pub fn new(options: BatchingOptions, engines: impl IntoIterator<Item = Sizes>) -> Self {
        let place = |Sizes { most, rounded }: Sizes| Place { wants: COLD, most: if rounded { 1 } else { most } };
        let engines: Vec<Place> = engines.into_iter().map(place).collect();
        let state = State { waiting: VecDeque::new(), living: engines.len(), engines, closed: false };
        Queue { state: Mutex::new(state), changed: Condvar::new(), options }
    }

    /// All of them, or none if there is no room.
    pub fn push(&self, jobs: Vec<Job>) -> Result<(), Unanswered> {
        let mut state = self.lock();
        if state.closed {
            return Err(Unanswered::Ended);
        }
        let is_full = |state: &State| state.waiting.len() + jobs.len() > self.options.queue;
        if is_full(&state) {
            state.forget_abandoned();
            if is_full(&state) {
                return Err(Unanswered::Full);
            }
        }
        state.waiting.extend(jobs);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Images of one kind for this engine, as soon as it may have some; `None` when there is nothing more to do.
    pub fn take(&self, engine: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            state.forget_abandoned();
            if state.waiting.is_empty() && state.closed || state.engines[engine].wants == GONE {
                return None;
            }
            state = match self.when(&state, engine) {
                When::Now => {
                    let jobs = state.take(engine);
                    // With nobody idle any more, another one may make a batch ready.
                    self.changed.notify_all();
                    return Some(jobs);
                }
                When::In(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                When::Later => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// An engine that can run another batch.
    pub fn free(&self, engine: usize) {
        let wants = &mut self.lock().engines[engine].wants;
        *wants = if *wants == COLD { 1 } else { *wants + 1 };
        self.changed.notify_all();
    }

    /// From now on the engine is warm for so many images.
    pub fn warm(&self, engine: usize, most: usize) {
        self.lock().engines[engine].most = most;
        self.changed.notify_all();
    }

    /// What waits is still answered.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes an engine off that never got ready, or has ended; behind the last one nobody is left to answer.
    pub fn abandon(&self, engine: usize) {
        let mut state = self.lock();
        state.engines[engine].wants = GONE;
        state.living -= 1;
        if state.living == 0 {
            state.closed = true;
            state.waiting.clear();
        }
        drop(state);
        self.changed.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    fn when(&self, state: &State, engine: usize) -> When {
        let Place { wants, most } = state.engines[engine];
        let Some(first) = state.waiting.front() else { return When::Later };
        let full = state.waiting.len() >= most;
        match wants {
            1.. if full || state.closed => When::Now,
            1.. => match self.options.delay.saturating_sub(first.queued.elapsed()) {
                Duration::ZERO => When::Now,
                wait => When::In(wait),
            },
            // Made ready behind an engine that is busy, if nobody is there who would begin with it now.
            0 if full && state.engines.iter().all(|place| place.wants < 1) => When::Now,
            _ => When::Later,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Before they cost anything.
    fn forget_abandoned(&mut self) {
        self.waiting.retain(|job| !job.is_abandoned());
    }

    /// From the front; pixels and tensors do not share a batch.
    fn take(&mut self, engine: usize) -> Vec<Job> {
        let Place { wants, most } = &mut self.engines[engine];
        *wants -= 1;
        let kind = |job: &Job| (discriminant(&job.input), shape(&job.input));
        let first = self.waiting.front().map(kind);
        let alike = self.waiting.iter().take(*most).take_while(|job| Some(kind(job)) == first).count();
        self.waiting.drain(..alike).collect()
    }
}

fn shape(input: &Input) -> [usize; 2] {
    let [_, height, width] = input.shape();
    [height, width]
}
