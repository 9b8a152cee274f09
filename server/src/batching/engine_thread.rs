//! The two threads of an engine: one owns and runs it, the other prefetches the next batch in the meantime.
//!
//! GPU backends keep memory and streams per thread, so an engine stays on one thread for its whole life. Neither is an
//! async thread, because both compute for milliseconds at a time.

use super::batch::{self, Batch, BatchingMetrics, Execute};
use super::batch_sizes::BatchSizes;
use super::queue::{Queue, Work};
use anyhow::Result;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use tokio::sync::watch;

#[derive(Clone, PartialEq)]
pub enum EngineStatus {
    Preparing,
    Ready,
    Failed(String),
}

/// Everything needed to start the threads of one engine.
pub struct EngineThread {
    /// Index of the engine in the queue.
    pub index: usize,
    pub queue: Arc<Queue>,
    pub sizes: BatchSizes,
    pub metrics: BatchingMetrics,
    /// Image to warm up with.
    pub example: Input,
}

impl EngineThread {
    /// Starts both threads, named after `name`. `prepare` creates the engine on the thread that will own it. Returns a
    /// receiver of the engine's status.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be started.
    pub fn start<E: Execute>(
        self,
        name: &str,
        prepare: impl FnOnce() -> Result<E> + Send + 'static,
    ) -> std::io::Result<watch::Receiver<EngineStatus>> {
        let (status, receiver) = watch::channel(EngineStatus::Preparing);
        let (index, queue, sizes) = (self.index, self.queue.clone(), self.sizes);
        Builder::new().name(format!("batch {name}")).spawn(move || prefetch_batches(index, &queue, sizes))?;
        Builder::new().name(format!("engine {name}")).spawn(move || {
            let _removal = RemoveOnDrop(self.queue.clone(), self.index);
            match prepare().and_then(|engine| self.warm_up(&engine, 1).map(|()| engine)) {
                Ok(engine) => {
                    status.send_replace(EngineStatus::Ready);
                    self.process_queue(&engine);
                }
                Err(error) => {
                    status.send_replace(EngineStatus::Failed(format!("{error:#}")));
                }
            }
        })?;
        Ok(receiver)
    }

    fn process_queue(&self, engine: &impl Execute) {
        // In reverse order, because the next size is popped off the end.
        let mut warmup_sizes: Vec<usize> = self.sizes.warmup_sizes().collect();
        warmup_sizes.reverse();
        loop {
            let work = self.queue.next(self.index, warmup_sizes.is_empty());
            if matches!(work, Work::Finished) {
                return;
            }
            catch_panic(|| {
                let batch = match work {
                    Work::Batch(batch) => batch.without_abandoned(self.sizes),
                    Work::Jobs(jobs) => Some(Batch::new(jobs, self.sizes)),
                    Work::Nothing | Work::Finished => None,
                };
                if let Some(batch) = batch {
                    batch.run(engine, &self.metrics);
                }
            });
            // The larger sizes are warmed up once the engine is ready: immediately while the queue is empty, otherwise
            // one size after each batch.
            if let Some(size) = warmup_sizes.pop() {
                match self.warm_up(engine, size) {
                    Ok(()) => self.queue.set_max_batch(self.index, size),
                    Err(error) => {
                        tracing::warn!("cannot warm up batches of {size} images; using smaller batches: {error:#}");
                        warmup_sizes.clear();
                    }
                }
            }
        }
    }

    /// Runs a batch of example images, because the first run of each size is slower than all later ones. It also
    /// verifies that the network computes finite numbers.
    fn warm_up(&self, engine: &impl Execute, size: usize) -> Result<()> {
        let images = match &self.example {
            Input::Pixels(image) => Input::Pixels(ImageBatch::stack(vec![image.clone(); size])?),
            Input::Normalised(image) => Input::Normalised(Normalised::stack(vec![image.clone(); size])?),
        };
        batch::run(engine, &images, &[])?;
        Ok(())
    }
}

/// Removes an engine from the queue however its thread ends, so that no job waits for it.
struct RemoveOnDrop(Arc<Queue>, usize);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.0.remove_engine(self.1);
    }
}

fn prefetch_batches(index: usize, queue: &Queue, sizes: BatchSizes) {
    while let Some(jobs) = queue.prefetch(index) {
        queue.store_prefetched(index, catch_panic(|| Batch::new(jobs, sizes)));
    }
}

/// Catches panics, which drop the jobs of the current batch but leave the thread running.
fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).inspect_err(|_| tracing::error!("dropped a batch after a panic")).ok()
}
