//! The two threads of an engine: one that alone touches it, and one that makes the next batch ready meanwhile.
//!
//! GPU backends keep memory and streams by thread, so an engine stays on one that lives as long as it; and a thread that
//! computes for milliseconds must be none of the async ones.

use super::batch::{self, Batch};
use super::{BatchingMetrics, Execute, Queue, Sizes, State};
use anyhow::Result;
use model::engine::{Input, Normalised};
use model::preprocess::ImageBatch;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
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
        // The queue counts what is on its way, so that there is never more than one.
        let (hand, slot) = sync_channel(1);
        let (index, queue, sizes) = (self.index, self.queue.clone(), self.sizes);
        Builder::new().name(format!("batch {name}")).spawn(move || assemble(index, &queue, sizes, &hand))?;
        Builder::new().name(format!("engine {name}")).spawn(move || {
            let _ended = Ended(self.queue.clone(), self.index);
            match prepare().and_then(|engine| self.warm_up(&engine, 1).map(|()| engine)) {
                Ok(engine) => {
                    announce.send_replace(State::Ready);
                    self.work(&engine, &slot);
                }
                Err(error) => {
                    announce.send_replace(State::Failed(format!("{error:#}")));
                }
            }
        })?;
        Ok(state)
    }

    fn work(&self, engine: &impl Execute, slot: &Receiver<Batch>) {
        // The next one last.
        let mut cold: Vec<usize> = self.sizes.cold().collect();
        cold.reverse();
        self.queue.free(self.index);
        loop {
            let batch = match slot.try_recv() {
                Err(TryRecvError::Empty) if cold.is_empty() => slot.recv().map_err(|_| TryRecvError::Disconnected),
                batch => batch,
            };
            match batch {
                Ok(batch) => {
                    batch.run(engine, &self.metrics);
                    self.queue.free(self.index);
                }
                Err(TryRecvError::Empty) => (),
                Err(TryRecvError::Disconnected) => return,
            }
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

fn assemble(index: usize, queue: &Queue, sizes: Sizes, hand: &SyncSender<Batch>) {
    while let Some(jobs) = queue.take(index) {
        if hand.send(Batch::new(jobs, sizes)).is_err() {
            return;
        }
    }
}
