//! A thread pool for decoding and cropping photos and for parsing large request bodies, separate from the async threads
//! and the engines. It limits how many of them are processed and how many wait, so that slow or malicious input can
//! neither block the async threads nor use unbounded memory.

use crate::error::ApiError;
use crate::memory::Reservation;
use crate::metrics::Metrics;
use bytes::Bytes;
use model::checkpoint::Metadata;
use model::classifier::PreparedPhoto;
use model::preprocess::Limits;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub struct DecodePool {
    threads: ThreadPool,
    /// One permit for each photo or document that may be processed or wait.
    permits: Arc<Semaphore>,
    max_permits: usize,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// Permit to queue one photo or document; released on drop.
#[derive(Debug)]
pub struct DecodePermit(#[expect(dead_code, reason = "released on drop")] OwnedSemaphorePermit);

impl DecodePool {
    /// Starts `threads` threads, by default one per core. `queue` is the number of photos that may wait in addition to
    /// those being decoded.
    pub fn start(
        threads: Option<NonZero<usize>>,
        queue: NonZero<usize>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get);
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("decode {index}"));
        let max_permits = queue.get().saturating_add(threads).min(Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max_permits));
        Ok(DecodePool { threads: builder.build()?, permits, max_permits, limits, metrics })
    }

    /// Number of photos and documents that are being processed or wait.
    pub fn permits_in_use(&self) -> usize {
        self.max_permits - self.permits.available_permits()
    }

    /// Acquires one permit.
    ///
    /// # Errors
    /// Returns 503 immediately if none is available.
    pub fn acquire(&self) -> Result<DecodePermit, ApiError> {
        Ok(self.acquire_many(1)?.remove(0))
    }

    /// Acquires one permit for each of `photos` photos, or none at all.
    ///
    /// # Errors
    /// Returns 503 immediately if fewer are available.
    pub fn acquire_many(&self, photos: usize) -> Result<Vec<DecodePermit>, ApiError> {
        let full = || ApiError::overloaded("decode queue is full; retry later");
        let count = u32::try_from(photos).map_err(|_| full())?;
        let mut permits = self.permits.clone().try_acquire_many_owned(count).map_err(|_| full())?;
        Ok((0..photos).map(|_| DecodePermit(permits.split(1).expect("one permit per photo"))).collect())
    }

    /// Decodes and crops a photo as the checkpoint with this metadata requires, and returns how long it waited for a
    /// thread.
    ///
    /// # Errors
    /// Returns the client error for a photo that cannot be decoded.
    pub async fn prepare(
        &self,
        permit: DecodePermit,
        photo: Bytes,
        reservation: Arc<Reservation>,
        metadata: Arc<Metadata>,
    ) -> Result<(PreparedPhoto, Duration), ApiError> {
        let (limits, queued_at) = (self.limits, Instant::now());
        let prepare = move || (queued_at.elapsed(), PreparedPhoto::from_bytes(&photo, &limits, &metadata));
        let (wait, prepared) = self.run_with(permit, reservation, prepare).await?;
        self.metrics.decode_queue_seconds.observe(wait.as_secs_f64());
        let prepared = prepared?;
        self.metrics.decode_seconds.observe(prepared.decode_ms / 1e3);
        self.metrics.preprocess_seconds.observe(prepared.preprocess_ms / 1e3);
        Ok((prepared, wait))
    }

    /// Runs `work` on one of the threads, unless this future is dropped before its turn. `reserved` holds the
    /// reservations of the memory that it uses, and is dropped when the work is done.
    ///
    /// # Errors
    /// Returns 503 immediately if the queue is full, and 500 if `work` panics.
    pub async fn run<T: Send + 'static>(
        &self,
        reserved: impl Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run_with(self.acquire()?, reserved, work).await
    }

    async fn run_with<T: Send + 'static>(
        &self,
        permit: DecodePermit,
        reserved: impl Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, result) = oneshot::channel();
        self.threads.spawn_fifo(move || {
            // Held until the work is done: a client that disconnects neither stops running work nor frees its memory.
            let resources = (permit, reserved);
            let result = (!reply.is_closed()).then(|| catch_unwind(AssertUnwindSafe(work)));
            // Released before replying, because this thread may be descheduled as soon as the receiver wakes up.
            drop(resources);
            if let Some(result) = result {
                let _ = reply.send(result);
            }
        });
        let result = result.await.map_err(ApiError::internal)?;
        result.map_err(|_| ApiError::internal("decoding a photo or parsing a request body panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use std::sync::mpsc;

    fn decode_pool(queue: usize) -> Arc<DecodePool> {
        let (threads, queue) = (NonZero::new(1), NonZero::new(queue).unwrap());
        Arc::new(DecodePool::start(threads, queue, Limits::default(), Arc::new(Metrics::new())).unwrap())
    }

    /// Returns work that signals when it starts and then blocks until it is released, the signal, and the release.
    fn blocking_work() -> (impl FnOnce() + Send, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((start, started), (release, released)) = (mpsc::channel(), mpsc::channel());
        let work = move || {
            start.send(()).unwrap();
            let _ = released.recv();
        };
        (work, started, release)
    }

    #[tokio::test]
    async fn work_keeps_its_memory_and_permits_after_client_disconnects() {
        let (pool, budget) = (decode_pool(1), MemoryBudget::new(100));
        let (work, started, release) = blocking_work();
        let clients = [(60, Some(work)), (30, None)].map(|(bytes, work)| {
            let (pool, reserved) = (pool.clone(), budget.reserve(bytes).unwrap());
            tokio::spawn(async move { pool.run(reserved, move || work.map(|work| work())).await })
        });
        // Wait until both are in the pool and the first has started.
        while pool.permits_in_use() < 2 {
            tokio::task::yield_now().await;
        }
        started.recv().unwrap();
        for client in clients {
            client.abort();
            assert!(client.await.unwrap_err().is_cancelled());
        }
        assert_eq!((budget.reserved(), pool.permits_in_use()), (90, 2));
        assert_eq!(pool.run((), || ()).await.unwrap_err().status, 503);

        release.send(()).unwrap();
        while budget.reserved() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run((), || 7).await.unwrap(), 7);
    }

    #[test]
    fn acquires_permits_for_all_photos_or_none() {
        let pool = decode_pool(3);
        let first = pool.acquire_many(3).unwrap();
        assert_eq!(
            (first.len(), pool.acquire_many(2).unwrap_err().status.as_u16(), pool.permits_in_use()),
            (3, 503, 3)
        );
        drop(first);
        assert_eq!(pool.acquire_many(4).unwrap().len(), 4);
    }

    #[tokio::test]
    async fn panic_fails_only_its_own_work() {
        let pool = decode_pool(1);
        assert_eq!(pool.run((), || panic!("deliberate panic")).await.unwrap_err().status, 500);
        assert_eq!(pool.run((), || 7).await.unwrap(), 7);
    }
}
