//! Decoding and cropping, before the queue and beside the engines, on a pool of its own, and so is reading large documents: slow
//! or hostile ones can neither starve the async threads, nor take more memory than that many at a time, nor pile up.

use crate::body::Share;
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
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

pub struct Decoding {
    pool: ThreadPool,
    /// For photos that are decoded or wait for it.
    places: Arc<Semaphore>,
    most: usize,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// Of a photo that is decoded, or waits for it.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit);

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

    /// For one photo, as [`Decoding::places`].
    pub fn place(&self) -> Result<Place, ApiError> {
        Ok(self.places(1)?.remove(0))
    }

    /// For so many photos.
    ///
    /// # Errors
    /// 503 at once if there are not so many left.
    pub fn places(&self, photos: usize) -> Result<Vec<Place>, ApiError> {
        let full = || ApiError::overloaded("as many photos wait to be decoded as may");
        let count = u32::try_from(photos).map_err(|_| full())?;
        let mut places = self.places.clone().try_acquire_many_owned(count).map_err(|_| full())?;
        Ok((0..photos).map(|_| Place(places.split(1).expect("there is one for each photo"))).collect())
    }

    /// What the network of these metadata sees of a photo, and how long the photo waited for a thread.
    ///
    /// # Errors
    /// What is wrong with the photo.
    pub async fn prepare(
        &self,
        place: Place,
        photo: Bytes,
        share: &Arc<Share>,
        metadata: Arc<Metadata>,
    ) -> Result<(Prepared, Duration), ApiError> {
        let (limits, asked) = (self.limits, Instant::now());
        let prepare = move || (asked.elapsed(), Prepared::from_bytes(&photo, &limits, &metadata));
        let (wait, prepared) = self.work_at(place, share, prepare).await?;
        self.metrics.decode_queue_seconds.observe(wait.as_secs_f64());
        let prepared = prepared?;
        self.metrics.decode_seconds.observe(prepared.decode_ms / 1e3);
        self.metrics.preprocess_seconds.observe(prepared.preprocess_ms / 1e3);
        Ok((prepared, wait))
    }

    /// Has something done on one of the threads, unless who wants it has gone by then. `share` is for the bytes that it works on.
    ///
    /// # Errors
    /// 503 at once if too many wait, 500 if it panics.
    pub async fn work<T: Send + 'static>(
        &self,
        share: &Arc<Share>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        self.work_at(self.place()?, share, work).await
    }

    async fn work_at<T: Send + 'static>(
        &self,
        place: Place,
        share: &Arc<Share>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let share = share.clone();
        self.pool.spawn_fifo(move || {
            // Kept until it is done, for a client that goes does not stop what has begun, nor free what that holds.
            let kept = (place, share);
            let done = (!reply.is_closed()).then(|| catch_unwind(AssertUnwindSafe(work)));
            // Before the answer, behind which this thread may have to wait for a processor.
            drop(kept);
            if let Some(done) = done {
                let _ = reply.send(done);
            }
        });
        let answer = answer.await.map_err(ApiError::internal)?;
        answer.map_err(|_| ApiError::internal("reading a photo or a document panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::InFlight;
    use std::sync::mpsc;

    fn decoding(queue: usize) -> Arc<Decoding> {
        let (threads, queue) = (NonZero::new(1), NonZero::new(queue).unwrap());
        Arc::new(Decoding::start(threads, queue, Limits::default(), Arc::new(Metrics::new())).unwrap())
    }

    /// Work that says when it begins, and ends when it is told to.
    fn stuck() -> (impl FnOnce() + Send, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((begins, begun), (go, wait)) = (mpsc::channel(), mpsc::channel());
        let work = move || {
            begins.send(()).unwrap();
            let _ = wait.recv();
        };
        (work, begun, go)
    }

    #[tokio::test]
    async fn what_is_worked_on_or_waits_is_held_though_its_client_goes() {
        let (decoding, in_flight) = (decoding(1), InFlight::new(100));
        let share = |bytes: usize| {
            let share = in_flight.share();
            share.grow(bytes).unwrap();
            Arc::new(share)
        };
        let (work, begun, go) = stuck();
        let clients = [(share(60), Some(work)), (share(30), None)].map(|(share, work)| {
            let decoding = decoding.clone();
            tokio::spawn(async move { decoding.work(&share, move || work.map(|work| work())).await })
        });
        // Until both are in the pool, of which one has begun.
        while decoding.busy() < 2 {
            tokio::task::yield_now().await;
        }
        begun.recv().unwrap();
        for client in clients {
            client.abort();
            assert!(client.await.unwrap_err().is_cancelled());
        }
        assert_eq!((in_flight.held(), decoding.busy()), (90, 2));
        assert_eq!(decoding.work(&share(1), || ()).await.unwrap_err().status, 503);

        go.send(()).unwrap();
        while in_flight.held() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(decoding.work(&share(1), || 7).await.unwrap(), 7);
    }

    #[test]
    fn photos_of_a_request_get_places_all_or_none() {
        let decoding = decoding(3);
        let first = decoding.places(3).unwrap();
        assert_eq!((first.len(), decoding.places(2).unwrap_err().status.as_u16(), decoding.busy()), (3, 503, 3));
        drop(first);
        assert_eq!(decoding.places(4).unwrap().len(), 4);
    }

    #[tokio::test]
    async fn a_panic_is_nobody_elses() {
        let (decoding, in_flight) = (decoding(1), InFlight::new(1));
        let share = Arc::new(in_flight.share());
        assert_eq!(decoding.work(&share, || panic!("this is part of the test")).await.unwrap_err().status, 500);
        assert_eq!(decoding.work(&share, || 7).await.unwrap(), 7);
    }
}
