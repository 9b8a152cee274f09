//! Starts the engines of a model, queues images for them, and reports their state.

use super::batch::{BatchingMetrics, Execute};
use super::batch_sizes::BatchSizes;
use super::engine_thread::{EngineStatus, EngineThread};
use super::job::{InferenceFailure, InferenceOutput, Job};
use super::queue::{BatchingOptions, Queue, QueueDepth};
use super::statistics::{Statistics, StatisticsSnapshot};
use model::engine::Input;
use model::plan::Tap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// Engines and the queue that feeds them. When this is dropped, the engines finish the queued jobs and then stop.
pub struct Batcher {
    queue: Arc<Queue>,
    engines: Vec<watch::Receiver<EngineStatus>>,
    statistics: Arc<Statistics>,
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
        let mut batcher = Batcher { queue: queue.clone(), engines: Vec::new(), statistics: metrics.statistics.clone() };
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
            if let EngineStatus::Failed(reason) = &*status.map_err(|_| InferenceFailure::EngineStopped)? {
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

    /// Returns the statistics since the model was loaded.
    pub fn statistics(&self) -> StatisticsSnapshot {
        self.statistics.snapshot()
    }

    pub fn queue_depth(&self) -> QueueDepth {
        self.queue.depth()
    }

    /// Queues images (batches of one), either all of them or none. `taps` are the activations to return with each
    /// output. Dropping a [`PendingOutput`] cancels its image.
    ///
    /// # Errors
    /// Returns [`InferenceFailure::QueueFull`] immediately if the queue has no room for all of them, and
    /// [`InferenceFailure::EngineStopped`] if no engine is left.
    pub fn submit(
        &self,
        images: impl IntoIterator<Item = Input>,
        taps: &'static [Tap],
    ) -> Result<Vec<PendingOutput>, InferenceFailure> {
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
pub struct PendingOutput(oneshot::Receiver<Result<InferenceOutput, InferenceFailure>>);

impl PendingOutput {
    /// Waits for the output.
    ///
    /// # Errors
    /// Returns an error if the engine rejects the image, panics or stops.
    pub async fn wait(self) -> Result<InferenceOutput, InferenceFailure> {
        self.0.await.map_err(|_| InferenceFailure::EngineStopped)?
    }
}
