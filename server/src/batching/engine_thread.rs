//! The two threads of an engine: one that alone touches it, and one that makes the next batch ready while it runs.
//!
//! GPU backends keep memory and streams by thread, so an engine stays on one that lives as long as it; and a thread that
//! computes for milliseconds must be none of the async ones.

use super::batch::{self, Batch};
use super::queue::{Next, Queue};
use super::{BatchingMetrics, Execute, Sizes, State};
use anyhow::Result;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::Builder;
use tokio::sync::watch;

pub struct EngineThread {
    pub index: usize,
    pub queue: Arc<Queue>,
    pub sizes: Sizes,
    pub metrics: BatchingMetrics,
    /// An image to warm up with.
    pub example: Input,
}

impl EngineThread {
    pub fn start<E: Execute>(
        self,
        name: &str,
        prepare: impl FnOnce() -> Result<E> + Send + 'static,
    ) -> std::io::Result<watch::Receiver<State>> {
        let (announce, state) = watch::channel(State::Preparing);
        let (index, queue, sizes) = (self.index, self.queue.clone(), self.sizes);
        Builder::new().name(format!("batch {name}")).spawn(move || make_ahead(index, &queue, sizes))?;
        Builder::new().name(format!("engine {name}")).spawn(move || {
            let _ended = Ended(self.queue.clone(), self.index);
            match prepare().and_then(|engine| self.warm_up(&engine, 1).map(|()| engine)) {
                Ok(engine) => {
                    announce.send_replace(State::Ready);
                    self.work(&engine);
                }
                Err(error) => {
                    announce.send_replace(State::Failed(format!("{error:#}")));
                }
            }
        })?;
        Ok(state)
    }

    fn work(&self, engine: &impl Execute) {
        // The next one last.
        let mut cold: Vec<usize> = self.sizes.cold().collect();
        cold.reverse();
        loop {
            let next = self.queue.next(self.index, cold.is_empty());
            if matches!(next, Next::End) {
                return;
            }
            guarded(|| {
                let batch = match next {
                    Next::Batch(batch) => batch.without_abandoned(self.sizes),
                    Next::Jobs(jobs) => Some(Batch::new(jobs, self.sizes)),
                    Next::Nothing | Next::End => None,
                };
                if let Some(batch) = batch {
                    batch.run(engine, &self.metrics);
                }
            });
            // Other sizes are warmed up behind the first one: at once if nobody waits, else one behind each batch.
            if let Some(size) = cold.pop() {
                match self.warm_up(engine, size) {
                    Ok(()) => self.queue.warm(self.index, size),
                    Err(error) => {
                        tracing::warn!("batches of {size} images and more are not used: {error:#}");
                        cold.clear();
                    }
                }
            }
        }
    }

    /// The first run of a size takes longer than all others, so it is nobody's photo. It also tells whether the network
    /// computes numbers at all.
    fn warm_up(&self, engine: &impl Execute, size: usize) -> Result<()> {
        let images = match &self.example {
            Input::Pixels(image) => Input::Pixels(ImageBatch::stack(vec![image.clone(); size])?),
            Input::Normalised(image) => Input::Normalised(Normalised::stack(vec![image.clone(); size])?),
        };
        batch::run(engine, &images, &[])?;
        Ok(())
    }
}

/// However an engine's thread ends, nobody waits for it in vain.
struct Ended(Arc<Queue>, usize);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abandon(self.1);
    }
}

fn make_ahead(index: usize, queue: &Queue, sizes: Sizes) {
    while let Some(jobs) = queue.ahead(index) {
        queue.made(index, guarded(|| Batch::new(jobs, sizes)));
    }
}

/// A panic costs those their answers whose images it is about, and nobody else.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).inspect_err(|_| tracing::error!("a batch was lost in a panic")).ok()
}
