//! Dynamic batching: images wait in one queue per model until an engine is free, and run through it as a batch.
//!
//! Idle engines drive it, not a timer: an engine without work takes what is queued, up to its largest batch; while it
//! is busy, one full batch is prefetched for it. Several engines share one queue, which balances the load between them.
//! This module deals neither with HTTP nor with the internals of engines.

mod batch;
mod batch_sizes;
mod engine_thread;
mod queue;

pub use batch_sizes::BatchSizes;

use engine_thread::EngineThread;
use model::engine::{Activation, Device, EngineError, FallbackEngine, Input, Logits, Output};
use model::plan::Tap;
use prometheus::Histogram;
use queue::Queue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Executes a batch. Implemented by [`FallbackEngine`], and by fake engines in tests.
pub trait Execute: 'static {
    /// Runs a batch of a size that [`BatchSizes`] allows, and returns its logits and its activations at `taps`, with
    /// the device that computed them.
    fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError>;
}

impl Execute for FallbackEngine {
    fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
        pollster::block_on(self.run(input, taps))
    }
}

/// Options of a batcher.
#[derive(Clone, Copy, Debug)]
pub struct BatchingOptions {
    /// Maximum number of queued images.
    pub queue_size: usize,
    /// How long an idle engine waits for a batch to fill, counted from when its first image was queued.
    pub max_delay: Duration,
}

/// Histograms of a batcher, in seconds and images.
#[derive(Clone)]
pub struct BatchingMetrics {
    pub queue_seconds: Histogram,
    pub inference_seconds: Histogram,
    pub batch_size: Histogram,
}

/// The result of inference for one image.
#[derive(Debug)]
pub struct InferenceOutput {
    /// Logits of this image, a batch of one.
    pub logits: Logits,
    /// Activations of this image at the taps that its job requested.
    pub activations: Vec<Activation>,
    pub device: Device,
    /// Time from when the image was queued until its batch started.
    pub queue: Duration,
    /// Time that the engine took for the whole batch.
    pub inference: Duration,
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

/// The reason why an image has no output.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("inference queue is full")]
    QueueFull,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("engine panicked")]
    EnginePanicked,
    /// The thread of the engine has ended, or the image was dropped because of a panic while its batch was being
    /// stacked.
    #[error("engine stopped or dropped the image; see stderr for the cause")]
    EngineStopped,
}

/// A queued image and the channel for its output.
struct Job {
    /// A batch of one image.
    input: Input,
    taps: &'static [Tap],
    queued_at: Instant,
    reply: oneshot::Sender<Result<InferenceOutput, BatchError>>,
}

impl Job {
    /// Returns whether the receiver of the output was dropped, because the client disconnected or its deadline passed.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

/// Engines and the queue that feeds them. When this is dropped, the engines finish the queued jobs and then stop.
pub struct Batcher {
    queue: Arc<Queue>,
    engines: Vec<watch::Receiver<EngineStatus>>,
}

#[derive(Clone, PartialEq)]
enum EngineStatus {
    Preparing,
    Ready,
    Failed(String),
}

impl Batcher {
    /// Starts one thread per engine, named after `name`, which creates its engine (and so copies the weights to the
    /// device) and owns it from then on. Images can be submitted before the engines are ready. `example` is the image
    /// to warm up with.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started.
    pub fn start<E: Execute, P>(
        name: &str,
        engines: Vec<(BatchSizes, P)>,
        options: BatchingOptions,
        metrics: &BatchingMetrics,
        example: Input,
    ) -> std::io::Result<Self>
    where
        P: FnOnce() -> anyhow::Result<E> + Send + 'static,
    {
        let queue = Arc::new(Queue::new(options, engines.iter().map(|(sizes, _)| *sizes)));
        // Created before the threads: if one cannot be started, dropping the batcher stops those that already run.
        let mut batcher = Batcher { queue: queue.clone(), engines: Vec::new() };
        for (index, (sizes, prepare)) in engines.into_iter().enumerate() {
            let (queue, example) = (queue.clone(), example.clone());
            let thread = EngineThread { index, queue, sizes, metrics: metrics.clone(), example };
            batcher.engines.push(thread.start(name, prepare)?);
        }
        Ok(batcher)
    }

    /// Waits until every engine has run its first warm-up batch. The engines are checked in their order.
    ///
    /// # Errors
    /// Returns an error if an engine has failed to start, once those before it are ready.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        for engine in &self.engines {
            let mut status = engine.clone();
            let status = status.wait_for(|status| *status != EngineStatus::Preparing).await;
            if let EngineStatus::Failed(reason) = &*status.map_err(|_| BatchError::EngineStopped)? {
                anyhow::bail!("{reason}");
            }
        }
        Ok(())
    }

    /// Returns whether every engine has run its first warm-up batch and its thread is still running.
    pub fn is_ready(&self) -> bool {
        self.engines.iter().all(|status| *status.borrow() == EngineStatus::Ready) && self.is_alive()
    }

    /// Returns false if the thread of an engine has ended; engines are not restarted.
    pub fn is_alive(&self) -> bool {
        self.queue.is_alive()
    }

    /// Returns whether the queue has no room for `images` more images.
    pub fn is_full(&self, images: usize) -> bool {
        self.queue.is_full(images)
    }

    pub fn queue_depth(&self) -> QueueDepth {
        self.queue.depth()
    }

    /// Queues images (batches of one), either all of them or none. `taps` are the activations to return with each
    /// output. Dropping a [`PendingOutput`] cancels its image.
    ///
    /// # Errors
    /// Returns [`BatchError::QueueFull`] immediately if the queue has no room for all of them, and
    /// [`BatchError::EngineStopped`] if no engine is left.
    pub fn submit(
        &self,
        images: impl IntoIterator<Item = Input>,
        taps: &'static [Tap],
    ) -> Result<Vec<PendingOutput>, BatchError> {
        let (mut jobs, mut pending) = (Vec::new(), Vec::new());
        for input in images {
            let (reply, output) = oneshot::channel();
            jobs.push(Job { input, taps, queued_at: Instant::now(), reply });
            pending.push(PendingOutput(output));
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

/// The output of a submitted image, available once its batch has run.
pub struct PendingOutput(oneshot::Receiver<Result<InferenceOutput, BatchError>>);

impl PendingOutput {
    /// Waits for the output.
    ///
    /// # Errors
    /// Returns an error if the engine rejects the image, panics or stops.
    pub async fn wait(self) -> Result<InferenceOutput, BatchError> {
        self.0.await.map_err(|_| BatchError::EngineStopped)?
    }
}

#[cfg(test)]
mod tests;
