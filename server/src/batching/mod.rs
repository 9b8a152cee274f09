//! Dynamic batching: images wait in one queue for whichever engine is free, and go through it together.
//!
//! It is driven by idle engines, not by a timer: an engine that has nothing to do takes what waits, up to the largest batch;
//! one that is busy has one full batch made ready behind its back. Several engines draw from the same queue, so that work
//! goes to whoever has least. It knows neither HTTP nor what is inside an engine.

mod batch;
mod engine_thread;
mod queue;
mod sizes;

pub use sizes::Sizes;

use engine_thread::EngineThread;
use model::engine::{Device, EnduringEngine, EngineError, Input, Kept, Logits, Output};
use model::plan::Tap;
use prometheus::Histogram;
use queue::Queue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// What executes a batch. [`EnduringEngine`] but for tests.
pub trait Execute: 'static {
    /// `input` has as many images as [`Sizes`] allows; `keep` as in [`model::engine::Engine::run`].
    fn execute(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError>;
}

impl Execute for EnduringEngine {
    fn execute(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
        pollster::block_on(self.run(input, keep))
    }
}

/// How a batcher works.
#[derive(Clone, Copy, Debug)]
pub struct BatchingOptions {
    /// Images that may wait.
    pub queue: usize,
    /// How long the first image of a batch waits for others, though an engine is free.
    pub delay: Duration,
}

/// Where a batcher writes what it did, in seconds and images.
#[derive(Clone)]
pub struct BatchingMetrics {
    pub wait: Histogram,
    pub inference: Histogram,
    pub size: Histogram,
}

/// What one image got.
#[derive(Debug)]
pub struct Answered {
    /// Of one image.
    pub logits: Logits,
    /// What was to be kept, of this image.
    pub kept: Vec<Kept>,
    pub device: Device,
    /// From when it was queued until its batch began.
    pub queue: Duration,
    /// Of its batch.
    pub inference: Duration,
}

/// Images that wait for an engine.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub queued: usize,
    /// In batches that were taken from the queue for engines that are busy.
    pub ahead: usize,
}

impl Waiting {
    pub fn images(self) -> usize {
        self.queued + self.ahead
    }
}

/// Why an image has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("the queue is full")]
    Full,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine panicked")]
    Panicked,
    #[error("the engine's thread has ended; what it wrote to stderr says why")]
    Ended,
}

/// An image that waits, with who waits for it.
struct Job {
    /// A batch of one.
    input: Input,
    keep: &'static [Tap],
    queued: Instant,
    reply: oneshot::Sender<Result<Answered, Unanswered>>,
}

impl Job {
    /// Nobody waits for the answer any more: the client has gone, or its deadline is over.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Engines with the queue in front of them. They answer what was queued, and end, when this is dropped.
pub struct Batcher {
    queue: Arc<Queue>,
    engines: Vec<watch::Receiver<State>>,
}

#[derive(Clone, PartialEq)]
enum State {
    Preparing,
    Ready,
    Failed(String),
}

impl Batcher {
    /// Each of `engines` is made on a thread of its own, named after `name`, where it then stays: making it brings the weights to
    /// its device. Images may come before that is done.
    pub fn start<E: Execute, P>(
        name: &str,
        engines: Vec<(Sizes, P)>,
        options: BatchingOptions,
        metrics: &BatchingMetrics,
        example: Input,
    ) -> std::io::Result<Self>
    where
        P: FnOnce() -> anyhow::Result<E> + Send + 'static,
    {
        let queue = Arc::new(Queue::new(options, engines.iter().map(|(sizes, _)| *sizes)));
        // Made first: if a thread cannot be started, those that run already end with it.
        let mut batcher = Batcher { queue: queue.clone(), engines: Vec::new() };
        for (index, (sizes, prepare)) in engines.into_iter().enumerate() {
            let (queue, example) = (queue.clone(), example.clone());
            let thread = EngineThread { index, queue, sizes, metrics: metrics.clone(), example };
            batcher.engines.push(thread.start(name, prepare)?);
        }
        Ok(batcher)
    }

    /// Waits until every engine is warm, or until one cannot get so.
    pub async fn prepared(&self) -> anyhow::Result<()> {
        for engine in &self.engines {
            let mut state = engine.clone();
            let state = state.wait_for(|state| *state != State::Preparing).await;
            if let State::Failed(reason) = &*state.map_err(|_| Unanswered::Ended)? {
                anyhow::bail!("{reason}");
            }
        }
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        self.engines.iter().all(|state| *state.borrow() == State::Ready) && self.is_whole()
    }

    /// False if the thread of an engine has ended, which does not come back.
    pub fn is_whole(&self) -> bool {
        self.queue.is_whole()
    }

    /// Whether there is no room for so many images more.
    pub fn is_full(&self, images: usize) -> bool {
        self.queue.is_full(images)
    }

    pub fn waiting(&self) -> Waiting {
        self.queue.waiting()
    }

    /// Queues images, batches of one, all of them or none; who drops what this returns does not want the answers any more.
    ///
    /// # Errors
    /// [`Unanswered::Full`] at once, if there is no room for all.
    pub fn submit(
        &self,
        images: impl IntoIterator<Item = Input>,
        keep: &'static [Tap],
    ) -> Result<Vec<Pending>, Unanswered> {
        let (mut jobs, mut pending) = (Vec::new(), Vec::new());
        for input in images {
            let (reply, answer) = oneshot::channel();
            jobs.push(Job { input, keep, queued: Instant::now(), reply });
            pending.push(Pending(answer));
        }
        self.queue.push(jobs)?;
        Ok(pending)
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// An answer that is still to come.
pub struct Pending(oneshot::Receiver<Result<Answered, Unanswered>>);

impl Pending {
    pub async fn answer(self) -> Result<Answered, Unanswered> {
        self.0.await.map_err(|_| Unanswered::Ended)?
    }
}

#[cfg(test)]
mod tests;
