use super::*;
use crate::fixture::{FakeEngine, OPTIONS, SIZES, grey};
use crate::metrics::Metrics;
use model::preprocess::ImageBatch;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Says how large each batch is, and runs it when told to.
struct Stepped {
    sizes: Sender<usize>,
    go: Mutex<Receiver<()>>,
}

impl Execute for Stepped {
    fn execute(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
        self.sizes.send(input.shape()[0]).unwrap();
        // When the test is over nobody steps any more.
        let _ = self.go.lock().unwrap().recv();
        FakeEngine::Answers(256).execute(input, keep)
    }
}

fn stepped(options: BatchingOptions) -> (Batcher, Receiver<usize>, Sender<()>) {
    stepped_by(SIZES, options)
}

fn stepped_by(sizes_of_batches: Sizes, options: BatchingOptions) -> (Batcher, Receiver<usize>, Sender<()>) {
    let ((sizes, ran), (step, go)) = (channel(), channel());
    let prepare = move || Ok(Stepped { sizes, go: go.into() });
    let batcher =
        Batcher::start("test", vec![(sizes_of_batches, prepare)], options, &Metrics::new().batching("test"), grey(0));
    // The warm-up.
    step.send(()).unwrap();
    assert_eq!(ran.recv().unwrap(), 1);
    (batcher.unwrap(), ran, step)
}

fn fake(engine: FakeEngine, options: BatchingOptions) -> Batcher {
    Batcher::start("test", vec![(SIZES, move || Ok(engine))], options, &Metrics::new().batching("test"), grey(0))
        .unwrap()
}

fn greys(greys: impl IntoIterator<Item = u8>) -> Vec<Input> {
    greys.into_iter().map(grey).collect()
}

fn likeliest(answer: &Answered) -> usize {
    model::prediction::ranking(answer.logits.row(0), 1)[0]
}

#[tokio::test]
async fn an_idle_engine_takes_what_waits_and_a_busy_one_a_full_batch() {
    let (batcher, ran, step) = stepped(OPTIONS);
    let first = batcher.submit(greys([1]), &[]).unwrap();
    assert_eq!(ran.recv().unwrap(), 1);
    // While that runs, seven come: four are a full batch, three are what is left when the engine is idle.
    let others = batcher.submit(greys(2..9), &[]).unwrap();
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((ran.recv().unwrap(), ran.recv().unwrap()), (4, 3));
    for (pending, expected) in first.into_iter().chain(others).zip(1..) {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn every_image_gets_its_own_answer() {
    let batcher = fake(FakeEngine::Answers(256), OPTIONS);
    for _ in 0..20 {
        let pending = batcher.submit(greys(0..=255), &[]).unwrap();
        for (expected, pending) in pending.into_iter().enumerate() {
            assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_all_or_takes_all() {
    let (batcher, ran, _step) = stepped(BatchingOptions { queue: 3, ..OPTIONS });
    let _running = batcher.submit(greys([0]), &[]).unwrap();
    ran.recv().unwrap();
    let _waiting = batcher.submit(greys(0..2), &[]).unwrap();
    assert!(matches!(batcher.submit(greys(0..2), &[]), Err(Unanswered::Full)));
    assert_eq!(batcher.waiting().queued, 2);
    assert!(batcher.submit(greys(0..1), &[]).is_ok());
}

#[tokio::test]
async fn whose_client_has_gone_costs_nothing() {
    let (batcher, ran, step) = stepped(OPTIONS);
    let running = batcher.submit(greys([0]), &[]).unwrap();
    ran.recv().unwrap();
    drop(batcher.submit(greys([1, 2, 3]), &[]).unwrap());
    let last = batcher.submit(greys([9]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    assert_eq!(ran.recv().unwrap(), 1);
    drop(running);
    for pending in last {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), 9);
    }
}

#[tokio::test]
async fn whose_client_goes_while_the_batch_is_ready_costs_nothing_either() {
    let (batcher, ran, step) = stepped(OPTIONS);
    let running = batcher.submit(greys([0]), &[]).unwrap();
    ran.recv().unwrap();
    // Two full batches, of which one is made ready behind the one that runs.
    let mut ahead = batcher.submit(greys(1..5), &[]).unwrap();
    let others = batcher.submit(greys(5..9), &[]).unwrap();
    while batcher.waiting().queued > 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(batcher.waiting().ahead, 4);
    drop(ahead.drain(1..3));
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((ran.recv().unwrap(), ran.recv().unwrap()), (2, 4));
    for (pending, expected) in running.into_iter().chain(ahead).chain(others).zip([0, 1, 4, 5, 6, 7, 8]) {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn pixels_and_tensors_do_not_share_a_batch() {
    use model::engine::Normalised;
    let (batcher, ran, step) = stepped(OPTIONS);
    let running = batcher.submit(greys([0]), &[]).unwrap();
    ran.recv().unwrap();
    let tensor = || Input::Normalised(Normalised::new(vec![7.0; 12], [1, 2, 2]).unwrap());
    // Nor do they break each other's up.
    let waiting = batcher.submit([grey(1), tensor(), grey(2), tensor()], &[]).unwrap();
    (0..3).for_each(|_| step.send(()).unwrap());
    assert_eq!((ran.recv().unwrap(), ran.recv().unwrap()), (2, 2));
    let mut answers = Vec::new();
    for pending in running.into_iter().chain(waiting) {
        answers.push(likeliest(&pending.answer().await.unwrap()));
    }
    assert_eq!(answers, [0, 1, 7, 2, 7]);
}

#[tokio::test]
async fn a_gpu_is_given_few_sizes_and_warms_them_up_behind_the_first() {
    let (batcher, ran, step) = stepped_by(Sizes { most: 4, rounded: true }, OPTIONS);
    batcher.prepared().await.unwrap();
    for size in [2, 4] {
        assert_eq!(ran.recv().unwrap(), size);
        step.send(()).unwrap();
    }
    let first = batcher.submit(greys([1]), &[]).unwrap();
    assert_eq!(ran.recv().unwrap(), 1);
    let three = batcher.submit(greys([2, 3, 4]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    assert_eq!(ran.recv().unwrap(), 4);
    for (pending, expected) in first.into_iter().chain(three).zip(1..) {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_batch_fills_if_it_is_given_time() {
    let (batcher, ran, step) = stepped(BatchingOptions { delay: Duration::from_secs(60), ..OPTIONS });
    let pending: Vec<_> = (0..4).flat_map(|index| batcher.submit(greys([index]), &[]).unwrap()).collect();
    step.send(()).unwrap();
    assert_eq!(ran.recv().unwrap(), 4);
    for pending in pending {
        pending.answer().await.unwrap();
    }
}

#[tokio::test]
async fn engines_draw_from_one_queue() {
    let (sizes, ran) = channel();
    let (steps, prepare): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (step, go) = channel();
            let sizes = sizes.clone();
            (step, (SIZES, move || Ok(Stepped { sizes, go: go.into() })))
        })
        .unzip();
    let batcher = Batcher::start("test", prepare, OPTIONS, &Metrics::new().batching("test"), grey(0)).unwrap();
    steps.iter().for_each(|step| step.send(()).unwrap());
    batcher.prepared().await.unwrap();
    assert_eq!((ran.recv().unwrap(), ran.recv().unwrap()), (1, 1));
    // One after the other, so that each finds an engine that is idle, though the first one is stuck.
    let first = batcher.submit(greys([1]), &[]).unwrap();
    ran.recv().unwrap();
    let second = batcher.submit(greys([2]), &[]).unwrap();
    ran.recv().unwrap();
    steps.iter().for_each(|step| step.send(()).unwrap());
    for (pending, expected) in first.into_iter().chain(second).zip(1..) {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn what_was_made_ready_for_a_busy_engine_goes_to_one_that_is_idle() {
    // Whichever of the two it is made ready for.
    for stuck in 0..2 {
        let (mut engines, mut rans, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let ((sizes, ran), (step, go)) = (channel(), channel());
            engines.push((SIZES, move || Ok(Stepped { sizes, go: go.into() })));
            step.send(()).unwrap();
            rans.push(ran);
            steps.push(step);
        }
        let batcher = Batcher::start("test", engines, OPTIONS, &Metrics::new().batching("test"), grey(0)).unwrap();
        batcher.prepared().await.unwrap();
        let mut pending = Vec::new();
        for image in 0..2 {
            pending.extend(batcher.submit(greys([image]), &[]).unwrap());
            while batcher.waiting().queued > 0 {
                tokio::task::yield_now().await;
            }
        }
        // The warm-up, and an image each.
        rans.iter().for_each(|ran| assert_eq!((ran.recv().unwrap(), ran.recv().unwrap()), (1, 1)));
        pending.extend(batcher.submit(greys(2..6), &[]).unwrap());
        while batcher.waiting().queued > 0 {
            tokio::task::yield_now().await;
        }
        let free = 1 - stuck;
        (0..2).for_each(|_| steps[free].send(()).unwrap());
        assert_eq!(rans[free].recv_timeout(Duration::from_secs(30)), Ok(4));
        steps[stuck].send(()).unwrap();
        for (expected, pending) in pending.into_iter().enumerate() {
            assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
        }
    }
}

/// Fails whenever an image of one grey is in the batch.
struct Picky;

impl Execute for Picky {
    fn execute(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
        match input {
            Input::Pixels(images) if images.pixels().contains(&66) => Err(EngineError::Input("66".to_owned())),
            _ => FakeEngine::Answers(256).execute(input, keep),
        }
    }
}

#[tokio::test]
async fn an_image_that_fails_does_not_fail_its_neighbours() {
    let batcher =
        Batcher::start("test", vec![(SIZES, || Ok(Picky))], OPTIONS, &Metrics::new().batching("test"), grey(0))
            .unwrap();
    for pending in batcher.submit(greys(60..70), &[]).unwrap().into_iter().zip(60..) {
        match (pending.0.answer().await, pending.1) {
            (answer, 66) => assert!(matches!(answer, Err(Unanswered::Engine(_)))),
            (answer, expected) => assert_eq!(likeliest(&answer.unwrap()), expected),
        }
    }
}

#[tokio::test]
async fn images_queued_before_the_engine_is_warm_are_answered() {
    let (go, wait) = channel();
    let prepare = move || {
        wait.recv()?;
        Ok(FakeEngine::Answers(256))
    };
    let batcher =
        Batcher::start("test", vec![(SIZES, prepare)], OPTIONS, &Metrics::new().batching("test"), grey(0)).unwrap();
    assert!(!batcher.is_ready());
    let pending = batcher.submit(greys([5]), &[]).unwrap().remove(0);
    go.send(()).unwrap();
    assert_eq!(likeliest(&pending.answer().await.unwrap()), 5);
    batcher.prepared().await.unwrap();
    assert!(batcher.is_ready());
}

#[tokio::test]
async fn a_panic_costs_one_answer_and_not_the_thread() {
    /// Panics but for the warm-up.
    struct Panics;
    impl Execute for Panics {
        fn execute(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
            match input {
                Input::Pixels(images) if images.pixels()[0] > 0 => FakeEngine::Panics.execute(input, keep),
                _ => FakeEngine::Answers(256).execute(input, keep),
            }
        }
    }
    let batcher =
        Batcher::start("test", vec![(SIZES, || Ok(Panics))], OPTIONS, &Metrics::new().batching("test"), grey(0))
            .unwrap();
    for _ in 0..2 {
        let pending = batcher.submit(greys([1]), &[]).unwrap().remove(0);
        assert!(matches!(pending.answer().await, Err(Unanswered::Panicked)));
    }
    assert!(batcher.is_ready());
}

/// Images that no batch can be made of, though the queue takes them for alike.
fn clashing() -> [Input; 2] {
    let image = |mean| ImageBatch::new(vec![1; 12], [1, 2, 2], [mean; 3], [1.0; 3]).unwrap();
    [0.0, 0.5].map(|mean| Input::Pixels(image(mean)))
}

#[tokio::test]
async fn a_panic_while_a_batch_is_made_costs_its_owners_their_answers_and_nobody_else() {
    let (batcher, ran, step) = stepped(OPTIONS);
    batcher.prepared().await.unwrap();
    // By the engine itself, and while it is busy.
    let by_itself = batcher.submit(clashing(), &[]).unwrap();
    for pending in by_itself {
        assert!(matches!(pending.answer().await, Err(Unanswered::Ended)));
    }
    let running = batcher.submit(greys([5]), &[]).unwrap();
    assert_eq!(ran.recv().unwrap(), 1);
    let ahead = batcher.submit(clashing().into_iter().chain(clashing()), &[]).unwrap();
    for pending in ahead {
        assert!(matches!(pending.answer().await, Err(Unanswered::Ended)));
    }
    let last = batcher.submit(greys([6]), &[]).unwrap();
    (0..2).for_each(|_| step.send(()).unwrap());
    for (pending, expected) in running.into_iter().chain(last).zip(5..) {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
    assert!(batcher.is_ready());
}

#[test]
fn an_engine_whose_thread_has_ended_is_missed() {
    let queue = Queue::new(OPTIONS, [SIZES, SIZES]);
    assert!(queue.is_whole());
    queue.abandon(1);
    assert!(!queue.is_whole());
}

#[tokio::test]
async fn an_engine_that_cannot_be_prepared_says_why() {
    let prepare = || -> anyhow::Result<FakeEngine> { anyhow::bail!("no such device") };
    let batcher =
        Batcher::start("test", vec![(SIZES, prepare)], OPTIONS, &Metrics::new().batching("test"), grey(0)).unwrap();
    assert_eq!(batcher.prepared().await.unwrap_err().to_string(), "no such device");
    assert!(!batcher.is_ready());
    // Its thread may take a moment to end.
    if let Ok(mut pending) = batcher.submit(greys([1]), &[]) {
        assert!(matches!(pending.remove(0).answer().await, Err(Unanswered::Ended)));
    }
}

#[tokio::test]
async fn an_engine_that_computes_no_numbers_never_gets_ready() {
    let batcher = fake(FakeEngine::Fails, OPTIONS);
    assert!(batcher.prepared().await.is_err() && !batcher.is_ready());
}

#[tokio::test]
async fn what_was_queued_is_answered_though_the_batcher_goes() {
    let batcher = fake(FakeEngine::Answers(256), OPTIONS);
    let pending = batcher.submit(greys(0..50), &[]).unwrap();
    drop(batcher);
    for (expected, pending) in pending.into_iter().enumerate() {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn the_wait_is_measured() {
    let (batcher, ran, step) = stepped(OPTIONS);
    let _running = batcher.submit(greys([0]), &[]).unwrap();
    ran.recv().unwrap();
    let pending = batcher.submit(greys([1]), &[]).unwrap().remove(0);
    (0..2).for_each(|_| step.send(()).unwrap());
    let answer = pending.answer().await.unwrap();
    assert!(answer.queue > Duration::ZERO && answer.queue < Duration::from_secs(10), "{:?}", answer.queue);
}

#[tokio::test]
async fn sizes_are_warmed_up_between_batches_too() {
    let (batcher, ran, step) = stepped_by(Sizes { most: 4, rounded: true }, OPTIONS);
    // Eight photos and two warm-ups, however they are shared out.
    let waiting = batcher.submit(greys(0..8), &[]).unwrap();
    (0..10).for_each(|_| step.send(()).unwrap());
    let sizes: Vec<usize> = ran.iter().take(4).collect();
    assert!(sizes.contains(&4), "{sizes:?}: though somebody waits all the time, it is soon warm for four");
    for (expected, pending) in waiting.into_iter().enumerate() {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}

#[tokio::test]
async fn what_one_engine_leaves_another_does() {
    let broken = |is_broken: bool| {
        move || if is_broken { anyhow::bail!("no such device") } else { Ok(FakeEngine::Answers(256)) }
    };
    let engines = [true, false].map(|is_broken| (SIZES, broken(is_broken))).into();
    let batcher = Batcher::start("test", engines, OPTIONS, &Metrics::new().batching("test"), grey(0)).unwrap();
    assert!(batcher.prepared().await.is_err() && !batcher.is_ready());
    for (expected, pending) in batcher.submit(greys(0..50), &[]).unwrap().into_iter().enumerate() {
        assert_eq!(likeliest(&pending.answer().await.unwrap()), expected);
    }
}
