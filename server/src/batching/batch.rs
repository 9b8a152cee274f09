//! Images that go through an engine together, and come apart again behind it.

use super::{Answered, BatchingMetrics, Execute, Job, Sizes, Unanswered};
use model::engine::{Device, EngineError, Input, Kept, Logits, Normalised, Output};
use model::plan::Tap;
use model::preprocess::ImageBatch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub struct Batch {
    /// Those of `owners` in their order, then what fills the batch up.
    input: Input,
    owners: Vec<Owner>,
}

struct Owner {
    keep: &'static [Tap],
    queued: Instant,
    reply: oneshot::Sender<Result<Answered, Unanswered>>,
}

impl Batch {
    /// Of at least one image, all of one kind and size.
    pub fn new(jobs: Vec<Job>, sizes: Sizes) -> Self {
        let (mut inputs, mut owners) = (Vec::new(), Vec::new());
        for Job { input, keep, queued, reply } in jobs {
            inputs.push(input);
            owners.push(Owner { keep, queued, reply });
        }
        Batch { input: filled(inputs, sizes), owners }
    }

    /// How many images somebody wants answered.
    pub fn images(&self) -> usize {
        self.owners.len()
    }

    /// How many images it has, those that fill it up among them.
    pub fn size(&self) -> usize {
        self.input.shape()[0]
    }

    /// What is left of it without images that nobody waits for any more, if anything is.
    pub fn without_abandoned(mut self, sizes: Sizes) -> Option<Self> {
        // Asked once, for the answer may change any time.
        let left: Vec<bool> = self.owners.iter().map(|owner| !owner.reply.is_closed()).collect();
        if left.iter().all(|left| *left) {
            return Some(self);
        }
        let images = (0..left.len()).filter(|index| left[*index]).map(|index| image(&self.input, index));
        let inputs: Vec<Input> = images.collect();
        let mut left = left.iter();
        self.owners.retain(|_| *left.next().expect("one for each"));
        (!inputs.is_empty()).then(|| Batch { input: filled(inputs, sizes), owners: self.owners })
    }

    /// Answers every owner.
    pub fn run(self, engine: &impl Execute, metrics: &BatchingMetrics) {
        let begun = Instant::now();
        let keep = self.owners.iter().find(|owner| !owner.keep.is_empty()).map_or(&[][..], |owner| owner.keep);
        metrics.size.observe(self.owners.len() as f64);
        match run(engine, &self.input, keep) {
            Ok((output, device)) => {
                let inference = begun.elapsed();
                metrics.inference.observe(inference.as_secs_f64());
                for (index, owner) in self.owners.into_iter().enumerate() {
                    owner.answer(&output, index, device, begun, inference, metrics);
                }
            }
            Err(error) => match self.owners.len() {
                1 => self.owners.into_iter().zip([error]).for_each(|(owner, error)| owner.refuse(error)),
                // One image must not fail those that happen to be beside it.
                _ => self.run_one_by_one(engine, metrics),
            },
        }
    }

    fn run_one_by_one(self, engine: &impl Execute, metrics: &BatchingMetrics) {
        for (index, owner) in self.owners.into_iter().enumerate() {
            let begun = Instant::now();
            match run(engine, &image(&self.input, index), owner.keep) {
                Ok((output, device)) => owner.answer(&output, 0, device, begun, begun.elapsed(), metrics),
                Err(error) => owner.refuse(error),
            }
        }
    }
}

impl Owner {
    fn refuse(self, error: Unanswered) {
        // The client may have gone meanwhile.
        let _ = self.reply.send(Err(error));
    }

    fn answer(
        self,
        output: &Output,
        row: usize,
        device: Device,
        begun: Instant,
        inference: Duration,
        metrics: &BatchingMetrics,
    ) {
        let queue = begun - self.queued;
        metrics.wait.observe(queue.as_secs_f64());
        let classes = output.logits.classes;
        let logits = Logits { values: output.logits.row(row).to_vec(), batch: 1, classes };
        let kept =
            if self.keep.is_empty() { Vec::new() } else { output.kept.iter().map(|kept| of(kept, row)).collect() };
        // The client may have gone meanwhile.
        let _ = self.reply.send(Ok(Answered { logits, kept, device, queue, inference }));
    }
}

/// An engine keeps nothing between two runs, so a panic costs this one only.
pub fn run(engine: &impl Execute, input: &Input, keep: &[Tap]) -> Result<(Output, Device), Unanswered> {
    let ran: Result<Result<_, EngineError>, _> = catch_unwind(AssertUnwindSafe(|| engine.execute(input, keep)));
    ran.map_or(Err(Unanswered::Panicked), |ran| ran.map_err(Unanswered::Engine))
}

/// What was kept of one image.
fn of(kept: &Kept, row: usize) -> Kept {
    let [_, channels, height, width] = kept.shape;
    let size = channels * height * width;
    Kept { tap: kept.tap, values: kept.values[row * size..][..size].to_vec(), shape: [1, channels, height, width] }
}

/// One batch of them, and of the last one once more as often as it takes to fill it up.
fn filled(mut inputs: Vec<Input>, sizes: Sizes) -> Input {
    let size = sizes.filled(inputs.len());
    if size > inputs.len() {
        inputs.resize(size, inputs.last().expect("a batch has images").clone());
    }
    stack(inputs)
}

fn stack(inputs: Vec<Input>) -> Input {
    const ALIKE: &str = "the queue gives images of one kind and size";
    let pixels = matches!(inputs[0], Input::Pixels(_));
    if pixels {
        let images = inputs.into_iter().filter_map(|input| match input {
            Input::Pixels(image) => Some(image),
            Input::Normalised(_) => None,
        });
        Input::Pixels(ImageBatch::stack(images).expect(ALIKE))
    } else {
        let images = inputs.into_iter().filter_map(|input| match input {
            Input::Normalised(image) => Some(image),
            Input::Pixels(_) => None,
        });
        Input::Normalised(Normalised::stack(images).expect(ALIKE))
    }
}

fn image(input: &Input, index: usize) -> Input {
    match input {
        Input::Pixels(batch) => Input::Pixels(batch.image(index)),
        Input::Normalised(batch) => Input::Normalised(batch.image(index)),
    }
}
