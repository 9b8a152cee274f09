use super::queue::Queue;
use super::{BatchSizes, Batcher, BatchingOptions, Execute, InferenceFailure, InferenceOutput};
use crate::fixture::{BATCH_SIZES, BATCHING_OPTIONS, FakeEngine, grey};
use crate::metrics::Metrics;
use model::engine::{Device, EngineError, Input, Normalised, Output};
use model::plan::Tap;
use model::preprocess::ImageBatch;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// An engine that reports the size of each batch, and then runs it when the test permits one more step.
struct SteppedEngine {
    started: Sender<usize>,
    steps: Mutex<Receiver<()>>,
}

impl Execute for SteppedEngine {
    fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
        self.started.send(input.shape()[0]).unwrap();
        // Fails when the test has ended and dropped the sender.
        let _ = self.steps.lock().unwrap().recv();
        FakeEngine::Succeeds(256).execute(input, taps)
    }
}

fn start_batcher<E: Execute, P>(engines: Vec<(BatchSizes, P)>, options: BatchingOptions) -> Batcher
where
    P: FnOnce() -> anyhow::Result<E> + Send + 'static,
{
    Batcher::start("test", engines, options, &Metrics::new().batching("test"), grey(0)).unwrap()
}

fn stepped_batcher(options: BatchingOptions) -> (Batcher, Receiver<usize>, Sender<()>) {
    stepped_batcher_with(BATCH_SIZES, options)
}

fn stepped_batcher_with(sizes: BatchSizes, options: BatchingOptions) -> (Batcher, Receiver<usize>, Sender<()>) {
    let ((started, batch_sizes), (step, steps)) = (channel(), channel());
    let prepare = move || Ok(SteppedEngine { started, steps: steps.into() });
    let batcher = start_batcher(vec![(sizes, prepare)], options);
    // The first warm-up batch.
    step.send(()).unwrap();
    assert_eq!(batch_sizes.recv().unwrap(), 1);
    (batcher, batch_sizes, step)
}

fn fake(engine: FakeEngine, options: BatchingOptions) -> Batcher {
    start_batcher(vec![(BATCH_SIZES, move || Ok(engine))], options)
}

fn grey_images(values: impl IntoIterator<Item = u8>) -> Vec<Input> {
    values.into_iter().map(grey).collect()
}

fn top_class(output: &InferenceOutput) -> usize {
    model::prediction::top_k_indices(output.logits.row(0), 1)[0]
}

#[tokio::test]
async fn idle_engine_takes_all_queued_images_and_busy_one_prefetches_a_full_batch() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    let first = batcher.submit(grey_images([1]), &[]).unwrap();
    assert_eq!(batch_sizes.recv().unwrap(), 1);
    // Seven images arrive while it runs: four of them are prefetched as a full batch, the engine takes three when it is
    // idle.
    let others = batcher.submit(grey_images(2..9), &[]).unwrap();
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((batch_sizes.recv().unwrap(), batch_sizes.recv().unwrap()), (4, 3));
    for (pending, expected) in first.into_iter().chain(others).zip(1..) {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn each_image_gets_its_own_output() {
    let batcher = fake(FakeEngine::Succeeds(256), BATCHING_OPTIONS);
    for _ in 0..20 {
        let pending = batcher.submit(grey_images(0..=255), &[]).unwrap();
        for (expected, pending) in pending.into_iter().enumerate() {
            assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn submits_all_images_or_none_when_queue_is_full() {
    let (batcher, batch_sizes, _step) = stepped_batcher(BatchingOptions { queue_size: 3, ..BATCHING_OPTIONS });
    let _running = batcher.submit(grey_images([0]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    let _waiting = batcher.submit(grey_images(0..2), &[]).unwrap();
    assert!(matches!(batcher.submit(grey_images(0..2), &[]), Err(InferenceFailure::QueueFull)));
    assert_eq!(batcher.queue_depth().queued, 2);
    assert!(batcher.submit(grey_images(0..1), &[]).is_ok());
}

#[tokio::test]
async fn abandoned_queued_images_are_not_run() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    let running = batcher.submit(grey_images([0]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    drop(batcher.submit(grey_images([1, 2, 3]), &[]).unwrap());
    let last = batcher.submit(grey_images([9]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    assert_eq!(batch_sizes.recv().unwrap(), 1);
    drop(running);
    for pending in last {
        assert_eq!(top_class(&pending.wait().await.unwrap()), 9);
    }
}

#[tokio::test]
async fn abandoned_prefetched_images_are_not_run() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    let running = batcher.submit(grey_images([0]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    // Two full batches, the first of which is prefetched.
    let mut prefetched = batcher.submit(grey_images(1..5), &[]).unwrap();
    let others = batcher.submit(grey_images(5..9), &[]).unwrap();
    while batcher.queue_depth().queued > 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(batcher.queue_depth().prefetched, 4);
    drop(prefetched.drain(1..3));
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((batch_sizes.recv().unwrap(), batch_sizes.recv().unwrap()), (2, 4));
    for (pending, expected) in running.into_iter().chain(prefetched).chain(others).zip([0, 1, 4, 5, 6, 7, 8]) {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn pixels_and_tensors_are_batched_separately() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    let running = batcher.submit(grey_images([0]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    let tensor = || Input::Normalised(Normalised::new(vec![7.0; 12], [1, 2, 2]).unwrap());
    // Alternating kinds still form two batches.
    let waiting = batcher.submit([grey(1), tensor(), grey(2), tensor()], &[]).unwrap();
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((batch_sizes.recv().unwrap(), batch_sizes.recv().unwrap()), (2, 2));
    let mut classes = Vec::new();
    for pending in running.into_iter().chain(waiting) {
        classes.push(top_class(&pending.wait().await.unwrap()));
    }
    assert_eq!(classes, [0, 1, 7, 2, 7]);
}

#[tokio::test]
async fn padded_sizes_are_warmed_up_and_batches_padded() {
    let (batcher, batch_sizes, step) = stepped_batcher_with(BatchSizes { max: 4, padded: true }, BATCHING_OPTIONS);
    batcher.wait_until_ready().await.unwrap();
    for size in [2, 4] {
        assert_eq!(batch_sizes.recv().unwrap(), size);
        step.send(()).unwrap();
    }
    let first = batcher.submit(grey_images([1]), &[]).unwrap();
    assert_eq!(batch_sizes.recv().unwrap(), 1);
    let three = batcher.submit(grey_images([2, 3, 4]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    assert_eq!(batch_sizes.recv().unwrap(), 4);
    for (pending, expected) in first.into_iter().chain(three).zip(1..) {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn idle_engine_waits_max_delay_for_a_full_batch() {
    let (batcher, batch_sizes, step) =
        stepped_batcher(BatchingOptions { max_delay: Duration::from_secs(60), ..BATCHING_OPTIONS });
    let pending: Vec<_> = (0..4).flat_map(|index| batcher.submit(grey_images([index]), &[]).unwrap()).collect();
    step.send(()).unwrap();
    assert_eq!(batch_sizes.recv().unwrap(), 4);
    for pending in pending {
        pending.wait().await.unwrap();
    }
}

#[tokio::test]
async fn engines_share_one_queue() {
    let (started, batch_sizes) = channel();
    let (senders, engines): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (step, steps) = channel();
            let started = started.clone();
            (step, (BATCH_SIZES, move || Ok(SteppedEngine { started, steps: steps.into() })))
        })
        .unzip();
    let batcher = start_batcher(engines, BATCHING_OPTIONS);
    senders.iter().for_each(|step| step.send(()).unwrap());
    batcher.wait_until_ready().await.unwrap();
    assert_eq!((batch_sizes.recv().unwrap(), batch_sizes.recv().unwrap()), (1, 1));
    // The second image runs on the idle engine while the first engine is blocked.
    let first = batcher.submit(grey_images([1]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    let second = batcher.submit(grey_images([2]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    senders.iter().for_each(|step| step.send(()).unwrap());
    for (pending, expected) in first.into_iter().chain(second).zip(1..) {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn idle_engine_takes_batch_prefetched_for_a_busy_one() {
    // The batch may be prefetched for either engine.
    for blocked in 0..2 {
        let (mut engines, mut batch_sizes_of, mut senders) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let ((started, batch_sizes), (step, steps)) = (channel(), channel());
            engines.push((BATCH_SIZES, move || Ok(SteppedEngine { started, steps: steps.into() })));
            step.send(()).unwrap();
            batch_sizes_of.push(batch_sizes);
            senders.push(step);
        }
        let batcher = start_batcher(engines, BATCHING_OPTIONS);
        batcher.wait_until_ready().await.unwrap();
        let mut pending = Vec::new();
        for image in 0..2 {
            pending.extend(batcher.submit(grey_images([image]), &[]).unwrap());
            while batcher.queue_depth().queued > 0 {
                tokio::task::yield_now().await;
            }
        }
        // Each engine has run the warm-up and started one image.
        batch_sizes_of
            .iter()
            .for_each(|batch_sizes| assert_eq!((batch_sizes.recv().unwrap(), batch_sizes.recv().unwrap()), (1, 1)));
        pending.extend(batcher.submit(grey_images(2..6), &[]).unwrap());
        while batcher.queue_depth().queued > 0 {
            tokio::task::yield_now().await;
        }
        let free = 1 - blocked;
        (0..2).for_each(|_| senders[free].send(()).unwrap());
        assert_eq!(batch_sizes_of[free].recv_timeout(Duration::from_secs(30)), Ok(4));
        senders[blocked].send(()).unwrap();
        for (expected, pending) in pending.into_iter().enumerate() {
            assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
        }
    }
}

/// An engine that fails if a batch contains a pixel of value 66.
struct FailsOnGrey66;

impl Execute for FailsOnGrey66 {
    fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
        match input {
            Input::Pixels(images) if images.pixels().contains(&66) => Err(EngineError::InvalidInput("66".to_owned())),
            _ => FakeEngine::Succeeds(256).execute(input, taps),
        }
    }
}

#[tokio::test]
async fn failing_image_does_not_fail_its_batch() {
    let batcher = start_batcher(vec![(BATCH_SIZES, || Ok(FailsOnGrey66))], BATCHING_OPTIONS);
    for pending in batcher.submit(grey_images(60..70), &[]).unwrap().into_iter().zip(60..) {
        match (pending.0.wait().await, pending.1) {
            (output, 66) => assert!(matches!(output, Err(InferenceFailure::Engine(_)))),
            (output, expected) => assert_eq!(top_class(&output.unwrap()), expected),
        }
    }
}

#[tokio::test]
async fn images_queued_before_the_engine_is_ready_are_run() {
    let (go, wait) = channel();
    let prepare = move || {
        wait.recv()?;
        Ok(FakeEngine::Succeeds(256))
    };
    let batcher = start_batcher(vec![(BATCH_SIZES, prepare)], BATCHING_OPTIONS);
    assert!(!batcher.is_ready());
    let pending = batcher.submit(grey_images([5]), &[]).unwrap().remove(0);
    go.send(()).unwrap();
    assert_eq!(top_class(&pending.wait().await.unwrap()), 5);
    batcher.wait_until_ready().await.unwrap();
    assert!(batcher.is_ready());
}

#[tokio::test]
async fn engine_panic_fails_one_image_and_thread_continues() {
    /// Panics on every image except the one for the warm-up.
    struct PanicsAfterWarmUp;
    impl Execute for PanicsAfterWarmUp {
        fn execute(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
            match input {
                Input::Pixels(images) if images.pixels()[0] > 0 => FakeEngine::Panics.execute(input, taps),
                _ => FakeEngine::Succeeds(256).execute(input, taps),
            }
        }
    }
    let batcher = start_batcher(vec![(BATCH_SIZES, || Ok(PanicsAfterWarmUp))], BATCHING_OPTIONS);
    for _ in 0..2 {
        let pending = batcher.submit(grey_images([1]), &[]).unwrap().remove(0);
        assert!(matches!(pending.wait().await, Err(InferenceFailure::EnginePanicked)));
    }
    assert!(batcher.is_ready());
}

/// Images that cannot be stacked because their means differ, although their batch keys are equal.
fn unstackable_images() -> [Input; 2] {
    let image = |mean| ImageBatch::new(vec![1; 12], [1, 2, 2], [mean; 3], [1.0; 3]).unwrap();
    [0.0, 0.5].map(|mean| Input::Pixels(image(mean)))
}

#[tokio::test]
async fn panic_while_stacking_fails_only_the_images_of_that_batch() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    batcher.wait_until_ready().await.unwrap();
    // An idle engine stacks its batch on its own thread.
    let batched_by_engine = batcher.submit(unstackable_images(), &[]).unwrap();
    for pending in batched_by_engine {
        assert!(matches!(pending.wait().await, Err(InferenceFailure::EngineStopped)));
    }
    let running = batcher.submit(grey_images([5]), &[]).unwrap();
    assert_eq!(batch_sizes.recv().unwrap(), 1);
    // While the engine is busy, the other thread stacks the batch.
    let prefetched = batcher.submit(unstackable_images().into_iter().chain(unstackable_images()), &[]).unwrap();
    for pending in prefetched {
        assert!(matches!(pending.wait().await, Err(InferenceFailure::EngineStopped)));
    }
    let last = batcher.submit(grey_images([6]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    for (pending, expected) in running.into_iter().chain(last).zip(5..) {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
    assert!(batcher.is_ready());
}

#[test]
fn queue_is_not_alive_after_an_engine_stopped() {
    let queue = Queue::new(BATCHING_OPTIONS, [BATCH_SIZES, BATCH_SIZES]);
    assert!(queue.is_alive());
    queue.remove_engine(1);
    assert!(!queue.is_alive());
}

#[tokio::test]
async fn failed_engine_start_is_reported() {
    let prepare = || -> anyhow::Result<FakeEngine> { anyhow::bail!("no such device") };
    let batcher = start_batcher(vec![(BATCH_SIZES, prepare)], BATCHING_OPTIONS);
    assert_eq!(batcher.wait_until_ready().await.unwrap_err().to_string(), "no such device");
    assert!(!batcher.is_ready());
    // The queue may still accept images, because the engine's thread takes a moment to end.
    if let Ok(mut pending) = batcher.submit(grey_images([1]), &[]) {
        assert!(matches!(pending.remove(0).wait().await, Err(InferenceFailure::EngineStopped)));
    }
}

#[tokio::test]
async fn engine_that_fails_its_warm_up_never_becomes_ready() {
    let batcher = fake(FakeEngine::Fails, BATCHING_OPTIONS);
    assert!(batcher.wait_until_ready().await.is_err() && !batcher.is_ready());
}

#[tokio::test]
async fn queued_images_are_run_after_batcher_is_dropped() {
    let batcher = fake(FakeEngine::Succeeds(256), BATCHING_OPTIONS);
    let pending = batcher.submit(grey_images(0..50), &[]).unwrap();
    drop(batcher);
    for (expected, pending) in pending.into_iter().enumerate() {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn queue_time_is_measured() {
    let (batcher, batch_sizes, step) = stepped_batcher(BATCHING_OPTIONS);
    let _running = batcher.submit(grey_images([0]), &[]).unwrap();
    batch_sizes.recv().unwrap();
    let pending = batcher.submit(grey_images([1]), &[]).unwrap().remove(0);
    (0..2).for_each(|_| step.send(()).unwrap());
    let output = pending.wait().await.unwrap();
    assert!(output.queue > Duration::ZERO && output.queue < Duration::from_secs(10), "{:?}", output.queue);
}

#[tokio::test]
async fn sizes_are_warmed_up_between_batches_under_load() {
    let (batcher, batch_sizes, step) = stepped_batcher_with(BatchSizes { max: 4, padded: true }, BATCHING_OPTIONS);
    // Eight images and two warm-ups need at most ten runs.
    let waiting = batcher.submit(grey_images(0..8), &[]).unwrap();
    (0..10).for_each(|_| step.send(()).unwrap());
    let sizes: Vec<usize> = batch_sizes.iter().take(4).collect();
    assert!(sizes.contains(&4), "not warmed up for batches of 4 while images are queued: {sizes:?}");
    for (expected, pending) in waiting.into_iter().enumerate() {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn images_run_on_the_remaining_engine_if_another_fails_to_start() {
    let broken = |is_broken: bool| {
        move || if is_broken { anyhow::bail!("no such device") } else { Ok(FakeEngine::Succeeds(256)) }
    };
    let engines = [true, false].map(|is_broken| (BATCH_SIZES, broken(is_broken))).into();
    let batcher = start_batcher(engines, BATCHING_OPTIONS);
    assert!(batcher.wait_until_ready().await.is_err() && !batcher.is_ready());
    for (expected, pending) in batcher.submit(grey_images(0..50), &[]).unwrap().into_iter().enumerate() {
        assert_eq!(top_class(&pending.wait().await.unwrap()), expected);
    }
}
