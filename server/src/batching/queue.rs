//! Images that wait, and which engine may take how many of them when.

use super::batch::Batch;
use super::{BatchingOptions, Job, Sizes, Unanswered, Waiting};
use model::engine::Input;
use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant, replace};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub struct Queue {
    state: Mutex<State>,
    /// For engines that are idle.
    work: Condvar,
    /// For those who make batches ready.
    ahead: Condvar,
    options: BatchingOptions,
}

struct State {
    waiting: VecDeque<Job>,
    engines: Vec<Place>,
    /// Whether each can run what was made ready for another.
    alike: bool,
    /// Of these, those whose threads have not ended.
    living: usize,
    closed: bool,
}

/// An engine.
struct Place {
    stage: Stage,
    ahead: Ahead,
    /// The largest batch that it is warm for.
    most: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Takes nothing yet: it might never get ready, and what it had would be lost.
    Cold,
    Idle,
    Busy,
    /// Takes nothing more.
    Gone,
}

/// What is made ready for an engine while it runs.
enum Ahead {
    Nothing,
    /// Of so many images.
    BeingMade(usize),
    Batch(Batch),
}

/// What there is for an engine to do.
pub enum Next {
    Batch(Batch),
    /// To be made a batch of.
    Jobs(Vec<Job>),
    /// At the moment.
    Nothing,
    /// Nor will there be.
    End,
}

/// When an engine that is idle may take what waits.
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
        let place = |sizes: Sizes| {
            let most = if sizes.rounded { 1 } else { sizes.most };
            Place { stage: Stage::Cold, ahead: Ahead::Nothing, most }
        };
        let sizes: Vec<Sizes> = engines.into_iter().collect();
        let alike = sizes.windows(2).all(|two| two[0] == two[1]);
        let engines: Vec<Place> = sizes.into_iter().map(place).collect();
        let state = State { waiting: VecDeque::new(), living: engines.len(), engines, alike, closed: false };
        Queue { state: Mutex::new(state), work: Condvar::new(), ahead: Condvar::new(), options }
    }

    /// All of them, or none if there is no room.
    pub fn push(&self, jobs: Vec<Job>) -> Result<(), Unanswered> {
        let mut state = self.lock();
        if state.closed {
            return Err(Unanswered::Ended);
        }
        if state.is_full(jobs.len(), self.options.queue) {
            return Err(Unanswered::Full);
        }
        state.waiting.extend(jobs);
        self.tell(&state);
        Ok(())
    }

    /// What this engine is to run, now that it is idle: what was made ready for it or for another one, else what waits. If it
    /// `may_wait`, it does so until there is something.
    pub fn next(&self, engine: usize, may_wait: bool) -> Next {
        let mut state = self.lock();
        state.engines[engine].stage = Stage::Idle;
        loop {
            state.forget_abandoned();
            let ready = state.ready(engine);
            let when = match state.engines[engine].ahead {
                _ if ready.is_some() => When::Now,
                Ahead::BeingMade(_) => When::Later,
                _ if state.waiting.is_empty() && state.closed => return Next::End,
                _ => self.when(&state, engine),
            };
            state = match when {
                When::Now => {
                    let ready = ready.map(|whose| replace(&mut state.engines[whose].ahead, Ahead::Nothing));
                    let next = match ready {
                        Some(Ahead::Batch(batch)) => Next::Batch(batch),
                        _ => Next::Jobs(state.take(engine)),
                    };
                    state.engines[engine].stage = Stage::Busy;
                    // With nobody idle any more, another batch may be made ready.
                    self.tell(&state);
                    return next;
                }
                _ if !may_wait => {
                    state.engines[engine].stage = Stage::Busy;
                    return Next::Nothing;
                }
                When::In(wait) => self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                When::Later => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Images of one kind to make a batch ready of for this engine while it runs, handed over by [`Queue::made`]; `None` when
    /// there is nothing more to do.
    pub fn ahead(&self, engine: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            state.forget_abandoned();
            if state.waiting.is_empty() && state.closed || state.engines[engine].stage == Stage::Gone {
                return None;
            }
            if state.is_wanted_ahead(engine) {
                let jobs = state.take(engine);
                state.engines[engine].ahead = Ahead::BeingMade(jobs.len());
                return Some(jobs);
            }
            state = self.ahead.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands it over, or says that nothing came of it.
    pub fn made(&self, engine: usize, batch: Option<Batch>) {
        let mut state = self.lock();
        if state.engines[engine].stage != Stage::Gone {
            state.engines[engine].ahead = batch.map_or(Ahead::Nothing, Ahead::Batch);
        }
        self.tell(&state);
    }

    /// From now on the engine is warm for so many images.
    pub fn warm(&self, engine: usize, most: usize) {
        let mut state = self.lock();
        state.engines[engine].most = most;
        self.tell(&state);
    }

    /// What waits is still answered.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.tell(&state);
    }

    /// Takes an engine off that never got ready, or has ended; behind the last one nobody is left to answer.
    pub fn abandon(&self, engine: usize) {
        let mut state = self.lock();
        let place = &mut state.engines[engine];
        (place.stage, place.ahead) = (Stage::Gone, Ahead::Nothing);
        state.living -= 1;
        if state.living == 0 {
            state.closed = true;
            state.waiting.clear();
        }
        self.tell(&state);
        self.ahead.notify_all();
    }

    /// Whether the thread of every engine still runs.
    pub fn is_whole(&self) -> bool {
        let state = self.lock();
        state.living == state.engines.len()
    }

    pub fn waiting(&self) -> Waiting {
        let state = self.lock();
        let ahead = state.engines.iter().map(|place| match &place.ahead {
            Ahead::Nothing => 0,
            Ahead::BeingMade(images) => *images,
            Ahead::Batch(batch) => batch.images(),
        });
        Waiting { queued: state.waiting.len(), ahead: ahead.sum() }
    }

    /// Whether there is no room for so many images more.
    pub fn is_full(&self, images: usize) -> bool {
        self.lock().is_full(images, self.options.queue)
    }

    fn when(&self, state: &State, engine: usize) -> When {
        let Some(first) = state.waiting.front() else { return When::Later };
        if state.closed || state.has_full_batch(engine) {
            return When::Now;
        }
        match self.options.delay.saturating_sub(first.queued.elapsed()) {
            Duration::ZERO => When::Now,
            wait => When::In(wait),
        }
    }

    /// Wakes engines if one is idle, and those who make batches ready if one is wanted: waking a thread costs more than all that
    /// is done here.
    fn tell(&self, state: &State) {
        if state.engines.iter().any(|place| place.stage == Stage::Idle) {
            self.work.notify_all();
        }
        if state.closed || (0..state.engines.len()).any(|engine| state.is_wanted_ahead(engine)) {
            self.ahead.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether there is no room in a queue of `most` for so many images more.
    fn is_full(&mut self, images: usize, most: usize) -> bool {
        if self.waiting.len() + images > most {
            self.forget_abandoned();
        }
        self.waiting.len() + images > most
    }

    /// Before they cost anything.
    fn forget_abandoned(&mut self) {
        self.waiting.retain(|job| !job.is_abandoned());
    }

    /// Whether a batch is to be made ready behind this engine: if nobody is there who would begin with it now.
    fn is_wanted_ahead(&self, engine: usize) -> bool {
        let place = &self.engines[engine];
        place.stage == Stage::Busy
            && matches!(place.ahead, Ahead::Nothing)
            && self.engines.iter().all(|place| place.stage != Stage::Idle)
            && self.has_full_batch(engine)
    }

    /// Whose batch this engine is to run: its own, or that of one that is still busy.
    fn ready(&self, engine: usize) -> Option<usize> {
        let most = self.engines[engine].most;
        let fits = |whose: &usize| match &self.engines[*whose].ahead {
            Ahead::Batch(batch) => *whose == engine || self.alike && batch.size() <= most,
            _ => false,
        };
        std::iter::once(engine).chain(0..self.engines.len()).find(fits)
    }

    fn has_full_batch(&self, engine: usize) -> bool {
        let most = self.engines[engine].most;
        let first = self.waiting.front().map(kind);
        self.waiting.iter().filter(|job| Some(kind(job)) == first).take(most).count() == most
    }

    /// The first and those like it, for pixels and tensors do not share a batch.
    fn take(&mut self, engine: usize) -> Vec<Job> {
        let most = self.engines[engine].most;
        let first = self.waiting.front().map(kind);
        let (mut taken, mut index) = (Vec::new(), 0);
        while taken.len() < most
            && let Some(job) = self.waiting.get(index)
        {
            if Some(kind(job)) == first {
                taken.extend(self.waiting.remove(index));
            } else {
                index += 1;
            }
        }
        taken
    }
}

/// Images of one kind and size can share a batch.
fn kind(job: &Job) -> (Discriminant<Input>, [usize; 2]) {
    let [_, height, width] = job.input.shape();
    (discriminant(&job.input), [height, width])
}
