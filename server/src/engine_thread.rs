//! A thread of its own for each model, which alone touches the model's engine.
//!
//! GPU backends keep memory and streams by thread, so an engine stays on one that lives as long as the server; and a
//! thread that computes for milliseconds must be none of the async ones. The queue in front of it is bounded: those who
//! find it full wait, and a job whose client has gone meanwhile is dropped before it costs anything.

use anyhow::{Result, bail};
use model::classifier::{Classifier, Prepared};
use model::engine::EngineError;
use model::prediction::Prediction;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs that wait for an engine; a prepared photo of 224x224 takes 150 kB.
const QUEUE: usize = 64;

/// What an engine thread does with a job. [`Classifier`] but for tests.
pub trait Classify {
    fn classify(&mut self, prepared: Prepared, queue_ms: f64, top_k: usize) -> Result<Prediction, EngineError>;
}

impl Classify for Classifier {
    fn classify(&mut self, prepared: Prepared, queue_ms: f64, top_k: usize) -> Result<Prediction, EngineError> {
        pollster::block_on(Classifier::classify(self, prepared, queue_ms, top_k))
    }
}

/// The handle of a thread, which ends when this is dropped.
pub struct EngineThread {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<State>,
}

struct Job {
    prepared: Prepared,
    top_k: usize,
    queued: Instant,
    reply: oneshot::Sender<Result<Prediction, Unanswered>>,
}

#[derive(Clone, PartialEq)]
enum State {
    Preparing,
    Ready,
    Failed(String),
}

/// Why a job has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine panicked")]
    Panicked,
    #[error("the engine's thread has ended; what it wrote to stderr says why")]
    Ended,
}

impl EngineThread {
    /// `prepare` runs on the thread: it brings the weights to the device and warms it up. Jobs may come before it is done.
    pub fn start<C: Classify>(
        name: &str,
        prepare: impl FnOnce() -> Result<C> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (announce, state) = watch::channel(State::Preparing);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || match prepare() {
            Ok(classifier) => {
                announce.send_replace(State::Ready);
                work(classifier, queue);
            }
            Err(error) => {
                announce.send_replace(State::Failed(format!("{error:#}")));
            }
        })?;
        Ok(EngineThread { jobs, state })
    }

    /// Waits until the engine is warm, or until it cannot get so.
    pub async fn prepared(&self) -> Result<()> {
        let mut state = self.state.clone();
        let state = state.wait_for(|state| *state != State::Preparing).await;
        match &*state.map_err(|_| Unanswered::Ended)? {
            State::Failed(reason) => bail!("{reason}"),
            State::Ready | State::Preparing => Ok(()),
        }
    }

    pub fn is_ready(&self) -> bool {
        *self.state.borrow() == State::Ready && !self.jobs.is_closed()
    }

    /// Queues a prepared photo, and waits for its answer.
    pub async fn classify(&self, prepared: Prepared, top_k: usize) -> Result<Prediction, Unanswered> {
        let (reply, answer) = oneshot::channel();
        let job = Job { prepared, top_k, queued: Instant::now(), reply };
        self.jobs.send(job).await.map_err(|_| Unanswered::Ended)?;
        answer.await.map_err(|_| Unanswered::Ended)?
    }
}

fn work(mut classifier: impl Classify, mut queue: mpsc::Receiver<Job>) {
    while let Some(Job { prepared, top_k, queued, reply }) = queue.blocking_recv() {
        if reply.is_closed() {
            continue;
        }
        let queue_ms = queued.elapsed().as_secs_f64() * 1e3;
        // One photo must not take the model away from all others. An engine keeps nothing between two runs.
        let answer = catch_unwind(AssertUnwindSafe(|| classifier.classify(prepared, queue_ms, top_k)));
        let answer = answer.map_or(Err(Unanswered::Panicked), |answer| answer.map_err(Unanswered::Engine));
        // The client may have gone meanwhile.
        let _ = reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{FakeClassifier, prepared};

    #[tokio::test]
    async fn jobs_queued_before_the_engine_is_warm_are_answered() {
        let (go, wait) = std::sync::mpsc::channel();
        let engine = EngineThread::start("test", move || {
            wait.recv()?;
            Ok(FakeClassifier::Answers)
        })
        .unwrap();
        assert!(!engine.is_ready());
        let answer = engine.classify(prepared(), 1);
        go.send(()).unwrap();
        assert_eq!(answer.await.unwrap().predictions.len(), 1);
        engine.prepared().await.unwrap();
        assert!(engine.is_ready());
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_not_the_thread() {
        let engine = EngineThread::start("test", || Ok(FakeClassifier::Panics)).unwrap();
        for _ in 0..2 {
            assert!(matches!(engine.classify(prepared(), 1).await, Err(Unanswered::Panicked)));
        }
        assert!(engine.is_ready());
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_prepared_says_why() {
        let engine = EngineThread::start::<FakeClassifier>("test", || bail!("no such device")).unwrap();
        assert_eq!(engine.prepared().await.unwrap_err().to_string(), "no such device");
        assert!(!engine.is_ready());
        assert!(matches!(engine.classify(prepared(), 1).await, Err(Unanswered::Ended)));
    }

    #[tokio::test]
    async fn the_wait_in_the_queue_is_measured() {
        let engine = EngineThread::start("test", || Ok(FakeClassifier::Answers)).unwrap();
        let timing = engine.classify(prepared(), 1).await.unwrap().timing_ms;
        assert!(timing.queue > 0.0 && timing.queue < 10_000.0, "{timing:?}");
    }
}
