//! A batch of images on its way through an engine: stacked before inference, split into one output per image
//! afterwards.

use super::batch_sizes::BatchSizes;
use super::job::{InferenceFailure, InferenceOutput, Job};
use super::statistics::Statistics;
use model::engine::{Activation, Device, EngineError, FallbackEngine, Input, Logits, Normalised, Output};
use model::plan::Tap;
use model::preprocess::ImageBatch;
use prometheus::Histogram;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

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

/// Histograms of a batcher, in seconds and images, and its statistics.
#[derive(Clone)]
pub struct BatchingMetrics {
    pub queue_seconds: Histogram,
    pub inference_seconds: Histogram,
    pub batch_size: Histogram,
    pub statistics: Arc<Statistics>,
}

/// Stacked images and the receivers of their outputs.
pub struct Batch {
    /// The images of `waiters`, in their order, followed by padding.
    input: Input,
    waiters: Vec<Waiter>,
}

/// A job without its image, which has been stacked.
struct Waiter {
    taps: &'static [Tap],
    queued_at: Instant,
    reply: oneshot::Sender<Result<InferenceOutput, InferenceFailure>>,
}

impl Batch {
    /// Stacks the images of at least one job; all have the same kind and size.
    pub fn new(jobs: Vec<Job>, sizes: BatchSizes) -> Self {
        let (mut inputs, mut waiters) = (Vec::new(), Vec::new());
        for Job { input, taps, queued_at, reply } in jobs {
            inputs.push(input);
            waiters.push(Waiter { taps, queued_at, reply });
        }
        Batch { input: stack_padded(inputs, sizes), waiters }
    }

    /// Number of images without padding.
    pub fn images(&self) -> usize {
        self.waiters.len()
    }

    /// Number of images including padding.
    pub fn padded_size(&self) -> usize {
        self.input.shape()[0]
    }

    /// Removes images whose receiver was dropped; returns `None` if none is left.
    pub fn without_abandoned(mut self, sizes: BatchSizes) -> Option<Self> {
        // Read once, because a receiver can be dropped at any time.
        let is_live: Vec<bool> = self.waiters.iter().map(|waiter| !waiter.reply.is_closed()).collect();
        if is_live.iter().all(|is_live| *is_live) {
            return Some(self);
        }
        let live = (0..is_live.len()).filter(|index| is_live[*index]).map(|index| image(&self.input, index));
        let inputs: Vec<Input> = live.collect();
        let mut is_live = is_live.iter();
        self.waiters.retain(|_| *is_live.next().expect("one flag per waiter"));
        (!inputs.is_empty()).then(|| Batch { input: stack_padded(inputs, sizes), waiters: self.waiters })
    }

    /// Runs the batch and replies to every waiter.
    pub fn run(self, engine: &impl Execute, metrics: &BatchingMetrics) {
        let start = Instant::now();
        let taps = self.taps();
        metrics.batch_size.observe(self.waiters.len() as f64);
        let result = run(engine, &self.input, &taps);
        let inference = start.elapsed();
        metrics.statistics.record_batch(self.waiters.len(), inference);
        match result {
            Ok((output, device)) => {
                metrics.inference_seconds.observe(inference.as_secs_f64());
                for (index, waiter) in self.waiters.into_iter().enumerate() {
                    waiter.send_output(&output, index, device, start, inference, metrics);
                }
            }
            Err(error) => match self.waiters.len() {
                1 => {
                    self.waiters.into_iter().zip([error]).for_each(|(waiter, error)| waiter.send_error(error, metrics))
                }
                // One invalid image must not fail the others of its batch.
                _ => self.run_one_by_one(engine, metrics),
            },
        }
    }

    /// Returns the taps of all waiters, each once.
    fn taps(&self) -> Vec<Tap> {
        let mut taps = Vec::new();
        for tap in self.waiters.iter().flat_map(|waiter| waiter.taps) {
            if !taps.contains(tap) {
                taps.push(*tap);
            }
        }
        taps
    }

    fn run_one_by_one(self, engine: &impl Execute, metrics: &BatchingMetrics) {
        for (index, waiter) in self.waiters.into_iter().enumerate() {
            let start = Instant::now();
            let result = run(engine, &image(&self.input, index), waiter.taps);
            let inference = start.elapsed();
            metrics.statistics.record_batch(1, inference);
            match result {
                Ok((output, device)) => waiter.send_output(&output, 0, device, start, inference, metrics),
                Err(error) => waiter.send_error(error, metrics),
            }
        }
    }
}

impl Waiter {
    fn send_error(self, error: InferenceFailure, metrics: &BatchingMetrics) {
        metrics.statistics.record_failure(self.queued_at.elapsed());
        // Fails if the client has disconnected in the meantime.
        let _ = self.reply.send(Err(error));
    }

    fn send_output(
        self,
        output: &Output,
        row: usize,
        device: Device,
        start: Instant,
        inference: Duration,
        metrics: &BatchingMetrics,
    ) {
        let queue = start - self.queued_at;
        metrics.queue_seconds.observe(queue.as_secs_f64());
        metrics.statistics.record_success(queue, inference);
        let classes = output.logits.classes;
        let logits = Logits { values: output.logits.row(row).to_vec(), batch: 1, classes };
        let activation = |tap: &Tap| output.activations.iter().find(|activation| activation.tap == *tap);
        let activations = self.taps.iter().filter_map(activation).map(|found| activation_of(found, row)).collect();
        // Fails if the client has disconnected in the meantime.
        let _ = self.reply.send(Ok(InferenceOutput { logits, activations, device, queue, inference }));
    }
}

/// Runs the engine and catches panics. Engines hold no state between runs, so they remain usable after a panic.
pub fn run(engine: &impl Execute, input: &Input, taps: &[Tap]) -> Result<(Output, Device), InferenceFailure> {
    let result: Result<Result<_, EngineError>, _> = catch_unwind(AssertUnwindSafe(|| engine.execute(input, taps)));
    result.map_or(Err(InferenceFailure::EnginePanicked), |result| result.map_err(InferenceFailure::Engine))
}

/// Copies the activation of one image out of that of a batch.
fn activation_of(activation: &Activation, row: usize) -> Activation {
    let [_, channels, height, width] = activation.shape;
    let size = channels * height * width;
    Activation {
        tap: activation.tap,
        values: activation.values[row * size..][..size].to_vec(),
        shape: [1, channels, height, width],
    }
}

/// Stacks images into one batch, padded with copies of the last image.
fn stack_padded(mut inputs: Vec<Input>, sizes: BatchSizes) -> Input {
    let size = sizes.padded_size(inputs.len());
    if size > inputs.len() {
        inputs.resize(size, inputs.last().expect("a batch has at least one image").clone());
    }
    stack(inputs)
}

fn stack(inputs: Vec<Input>) -> Input {
    const SAME_SHAPE: &str = "the queue batches only images of the same kind and size";
    let pixels = matches!(inputs[0], Input::Pixels(_));
    if pixels {
        let images = inputs.into_iter().filter_map(|input| match input {
            Input::Pixels(image) => Some(image),
            Input::Normalised(_) => None,
        });
        Input::Pixels(ImageBatch::stack(images).expect(SAME_SHAPE))
    } else {
        let images = inputs.into_iter().filter_map(|input| match input {
            Input::Normalised(image) => Some(image),
            Input::Pixels(_) => None,
        });
        Input::Normalised(Normalised::stack(images).expect(SAME_SHAPE))
    }
}

fn image(input: &Input, index: usize) -> Input {
    match input {
        Input::Pixels(batch) => Input::Pixels(batch.image(index)),
        Input::Normalised(batch) => Input::Normalised(batch.image(index)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{BATCH_SIZES, FakeEngine, grey};
    use crate::metrics::Metrics;
    use model::plan::Stage;

    #[test]
    fn batches_and_failed_images_are_counted() {
        let metrics = Metrics::new().batching("small");
        let batch = |images: usize| {
            let job = |_| Job { input: grey(1), taps: &[], queued_at: Instant::now(), reply: oneshot::channel().0 };
            Batch::new((0..images).map(job).collect(), BATCH_SIZES)
        };
        batch(2).run(&FakeEngine::Succeeds(2), &metrics);
        batch(3).run(&FakeEngine::Fails, &metrics);
        let statistics = metrics.statistics.snapshot();
        assert_eq!([statistics.inference.count, statistics.queue.count, statistics.failure.count], [2, 2, 3]);
        // The images of the failed batch run again one by one.
        let batches: Vec<_> = statistics.batches.iter().map(|(&images, batches)| (images, batches.count)).collect();
        assert_eq!(batches, [(1, 3), (2, 1), (3, 1)]);
        assert!(statistics.last_batch.is_some());
    }

    #[test]
    fn each_image_of_a_batch_gets_its_own_taps() {
        let taps: [&'static [Tap]; 4] =
            [&[Tap::Stage(Stage::Two)], &[], &[Tap::Stem, Tap::Stage(Stage::Two)], &[Tap::Stage(Stage::Four)]];
        let (jobs, outputs): (Vec<_>, Vec<_>) = taps
            .into_iter()
            .map(|taps| {
                let (reply, output) = oneshot::channel();
                (Job { input: grey(1), taps, queued_at: Instant::now(), reply }, output)
            })
            .unzip();
        Batch::new(jobs, BATCH_SIZES).run(&FakeEngine::Succeeds(2), &Metrics::new().batching("small"));
        for (mut output, expected) in outputs.into_iter().zip(taps) {
            let activations = output.try_recv().unwrap().unwrap().activations;
            let found: Vec<Tap> = activations.iter().map(|activation| activation.tap).collect();
            assert_eq!(found, expected);
            assert!(activations.iter().all(|activation| activation.shape[0] == 1));
        }
    }
}
