//! Decoding and cropping, before the queue and beside the engines, on a pool of its own: slow or hostile images can neither
//! starve the async threads, nor take more memory than that many decodes, nor pile up.

use crate::error::ApiError;
use crate::metrics::Metrics;
use bytes::Bytes;
use model::checkpoint::Metadata;
use model::classifier::Prepared;
use model::preprocess::Limits;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};

pub struct Decoding {
    pool: ThreadPool,
    /// For photos that are decoded or wait for it.
    places: Arc<Semaphore>,
    most: usize,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Decoding {
    /// `queue` photos may wait beside those that are being decoded.
    pub fn start(
        threads: Option<NonZero<usize>>,
        queue: NonZero<usize>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("decode {index}"));
        let most = queue.get().saturating_add(threads).min(Semaphore::MAX_PERMITS);
        Ok(Decoding { pool: builder.build()?, places: Arc::new(Semaphore::new(most)), most, limits, metrics })
    }

    /// Photos that are being decoded, or wait for it.
    pub fn busy(&self) -> usize {
        self.most - self.places.available_permits()
    }

    /// What the network of these metadata sees of a photo.
    ///
    /// # Errors
    /// What is wrong with the photo; 503 at once if too many wait.
    pub async fn prepare(&self, photo: Bytes, metadata: Arc<Metadata>) -> Result<Prepared, ApiError> {
        let full = |_| ApiError::overloaded("as many photos wait to be decoded as may");
        let place = self.places.clone().try_acquire_owned().map_err(full)?;
        let (reply, answer) = oneshot::channel();
        let limits = self.limits;
        self.pool.spawn_fifo(move || {
            // Kept on the thread, for a client that goes does not stop what has begun.
            let _place = place;
            if !reply.is_closed() {
                let _ = reply.send(catch_unwind(AssertUnwindSafe(|| Prepared::from_bytes(&photo, &limits, &metadata))));
            }
        });
        let answer = answer.await.map_err(ApiError::internal)?;
        let prepared = answer.map_err(|_| ApiError::internal("decoding a photo panicked"))??;
        self.metrics.decode_seconds.observe(prepared.decode_ms / 1e3);
        self.metrics.preprocess_seconds.observe(prepared.preprocess_ms / 1e3);
        Ok(prepared)
    }
}
