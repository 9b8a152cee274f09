//! What each replica does: epochs of steps, and an evaluation behind each.

use super::evaluation::{Counts, count};
use super::features::Features;
use super::interrupt::Interrupt;
use super::report::{Report, STEPS_PER_RECORD};
use super::run::{BEST, LAST};
use super::schedule::LearningRate;
use super::state::{Best, Standing, State};
use super::tally::{Summary, Tally};
use crate::data::{Augmentation, Dataset, EpochItem, DataLoader, SampleLoader, LoaderThreads, Transform, sequential_batches, strided_part, shuffled_batches};
use crate::learning::{LearnerInput, Learner, Mixing, StepOutcome};
use crate::recipe::Recipe;
use crate::replicas::Collective;
use anyhow::{Context, Result, anyhow, bail, ensure};
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::{Device, Engine, EngineError, EngineOptions};
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// What all replicas of a training have in common.
pub struct Common {
    pub recipe: Recipe,
    pub dataset: Dataset,
    /// Of every checkpoint, but for its metrics.
    pub metadata: Metadata,
    pub learning_rate: LearningRate,
    pub mixing: Option<Mixing>,
    pub steps_per_epoch: usize,
    /// Of a training of the head alone.
    pub features: Option<Features>,
    pub threads: LoaderThreads,
    pub interrupt: Interrupt,
    pub report: Mutex<Report>,
    /// From one state to the next, within an epoch.
    pub save_every: Duration,
}

impl Common {
    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock()
    }
}

/// One of them. The first one, of rank 0, also reports and saves.
pub struct Replica<'a> {
    common: &'a Common,
    collective: Box<dyn Collective>,
    learner: Learner,
    /// Where it evaluates.
    device: Device,
    standing: Standing,
    saved: Instant,
}

impl<'a> Replica<'a> {
    pub fn new(
        common: &'a Common,
        collective: Box<dyn Collective>,
        learner: Learner,
        device: Device,
        standing: Standing,
    ) -> Self {
        Replica { common, collective, learner, device, standing, saved: Instant::now() }
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// If the loss is not finite, if nothing can be decoded or written, if somebody interrupts, and if another replica is
    /// gone; what was saved before stays.
    pub fn run(mut self) -> Result<()> {
        if self.standing.epoch == 0 {
            self.standing.epoch = 1;
            // From here on, a training that is killed can go on.
            self.save()?;
        }
        loop {
            let epoch = self.standing.epoch;
            let trained = self.train()?;
            let checkpoint = self.learner.checkpoint(self.common.metadata.clone());
            let checkpoint = checkpoint.map_err(|error| self.diverged(&error.to_string()))?;
            self.save()?;
            self.evaluate(trained, checkpoint)?;
            let since = self.standing.best.map_or(0, |best| epoch - best.epoch);
            if self.common.recipe.early_stopping.is_some_and(|patience| since >= patience) {
                return self.say(&format!("stopped early: {since} epochs brought no better top-1"));
            }
            if epoch == self.common.recipe.epochs {
                return Ok(());
            }
            self.standing = Standing { epoch: epoch + 1, best: self.standing.best, ..Standing::default() };
        }
    }

    /// The steps of an epoch that are not done.
    fn train(&mut self) -> Result<Summary> {
        let Common { ref recipe, ref dataset, steps_per_epoch, .. } = *self.common;
        let Standing { epoch, step: done, found, seconds, .. } = self.standing;
        let batches = shuffled_batches(dataset.train.len(), recipe.batch_size, recipe.repetitions, recipe.seed, epoch);
        let mut lessons = self.lessons(batches.into_iter().skip(done), epoch);

        let (mut whole, mut recent) = (Tally::since(found, seconds), Tally::since(Default::default(), 0.0));
        for step in done + 1..=steps_per_epoch {
            let mut waited = Duration::ZERO;
            for _ in 0..recipe.accumulate {
                waited += lessons.give(epoch, &mut self.learner, self.common)?;
            }
            let learning_rate = self.common.learning_rate.at((epoch - 1) * steps_per_epoch + step - 1);
            let interrupted = f64::from(u8::from(self.common.interrupt.is_raised()));
            let (update, interrupted) = self.learner.update(learning_rate, interrupted, &*self.collective)?;
            let found = match update {
                StepOutcome::Applied(found) => found,
                StepOutcome::Diverged(why) => return Err(self.diverged(&format!("epoch {epoch}, step {step}: {why}"))),
            };
            whole.add(found, waited);
            recent.add(found, waited);
            (self.standing.step, self.standing.found, self.standing.seconds) = (step, whole.found(), whole.seconds());
            if self.reports() {
                self.report().step(epoch, &whole);
                if (step % STEPS_PER_RECORD == 0 || step == steps_per_epoch) && !recent.is_empty() {
                    let recent = std::mem::replace(&mut recent, Tally::since(Default::default(), 0.0));
                    self.report().steps(epoch, step, learning_rate, recent.summary())?;
                }
            }
            if interrupted > 0.0 {
                return self.stop();
            }
            // The last step's is saved in any case.
            if step < steps_per_epoch && self.saved.elapsed() >= self.common.save_every {
                self.save()?;
            }
        }
        ensure!(!whole.is_empty(), "none of the {} photos could be decoded", dataset.train.len());
        Ok(whole.summary())
    }

    /// This replica's parts of batches.
    fn lessons(&self, batches: impl Iterator<Item = Vec<EpochItem>>, epoch: usize) -> Lessons {
        let Common { recipe, dataset, metadata, threads, .. } = self.common;
        let parts = self.collective.world_size() * recipe.accumulate;
        let first = self.collective.rank() * recipe.accumulate;
        let mine: Vec<_> = batches
            .flat_map(|batch| (first..first + recipe.accumulate).map(move |own| strided_part(&batch, own, parts)))
            .collect();
        if self.common.features.is_some() {
            return Lessons::Features(mine.into_iter());
        }
        let transform = Transform::Train { augmentation: Augmentation::new(recipe), seed: recipe.seed, epoch };
        let preprocessing = recipe.training_preprocessing(epoch, &metadata.preprocessing);
        let sample_loader = SampleLoader { samples: dataset.train.clone(), preprocessing, transform, cache: dataset.cache.clone() };
        Lessons::Photos(DataLoader::new(sample_loader, mine, threads.clone()))
    }

    /// Evaluates the weights of an epoch, a part in each replica, and puts their metrics beside them.
    fn evaluate(&mut self, trained: Summary, checkpoint: Checkpoint) -> Result<()> {
        let counts = self.count(&checkpoint)?;
        let Counts { loss, top1, top5, photos, skipped } = counts;
        let interrupted = f64::from(u8::from(self.common.interrupt.is_raised()));
        let (_, sums) = self.collective.all_reduce(Vec::new(), &[loss, top1, top5, photos, skipped, interrupted])?;
        if sums[5] > 0.0 {
            return self.stop();
        }
        let counts = Counts { loss: sums[0], top1: sums[1], top5: sums[2], photos: sums[3], skipped: sums[4] };
        let val = counts.evaluation()?;

        let epoch = self.standing.epoch;
        let before = self.standing.best;
        let better = before.is_none_or(|best| val.top1 > best.top1 || (val.top1 == best.top1 && val.loss < best.loss));
        if better {
            self.standing.best = Some(Best { epoch, top1: val.top1, loss: val.loss });
        }
        if !self.reports() {
            return Ok(());
        }
        let metrics = json!({ "epoch": epoch, "top1": val.top1, "top5": val.top5, "loss": val.loss });
        let metadata = Metadata { metrics: Some(metrics), ..self.common.metadata.clone() };
        let checkpoint = checkpoint.with_metadata(metadata)?;
        let mut report = self.report();
        report.run().save(LAST, &checkpoint)?;
        if better {
            report.run().save(BEST, &checkpoint)?;
        }
        let learning_rate = self.common.learning_rate.at(epoch * self.common.steps_per_epoch - 1);
        report.epoch(epoch, learning_rate, trained, &val, better)
    }

    /// What this replica's share of the validation comes to.
    fn count(&self, checkpoint: &Checkpoint) -> Result<Counts> {
        let Common { recipe, dataset, metadata, threads, interrupt, features, .. } = self.common;
        let stops = || interrupt.is_raised() || self.collective.is_broken();
        let (rank, replicas) = (self.collective.rank(), self.collective.world_size());
        let batches = sequential_batches(dataset.val.len(), recipe.batch_size / replicas / recipe.accumulate);
        let batches = strided_part(&batches, rank, replicas);
        if let Some(features) = features {
            let (mut counts, classify) = (Counts::default(), self.learner.classifier());
            for batch in batches {
                let (rows, classes) = features.val.batch(&batch, &dataset.val);
                counts.skipped += (batch.len() - classes.len()) as f64;
                let logits = classify(rows);
                let rows = logits.chunks_exact(dataset.classes.len()).zip(classes);
                rows.for_each(|(row, class)| counts.add(row, class));
            }
            return Ok(counts);
        }
        let sample_loader = SampleLoader {
            samples: dataset.val.clone(),
            preprocessing: metadata.preprocessing.clone(),
            transform: Transform::Eval,
            cache: None,
        };
        let loader = DataLoader::new(sample_loader, batches, threads.clone());
        // What will answer with these weights; on a CPU, Burn would take many times as long.
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let options = EngineOptions { threads: NonZero::new((cores / replicas).max(1)), ..EngineOptions::default() };
        let engine = Engine::prepare_from(checkpoint, self.device, options);
        let counted = pollster::block_on(engine).map_err(Into::into).and_then(|engine| count(&engine, loader, stops));
        let (counts, skipped) = counted.map_err(|error| match error.downcast::<EngineError>() {
            // Weights that are finite may still be too large to compute with.
            Ok(error) => self.diverged(&error.to_string()),
            Err(error) => error,
        })?;
        self.report().skip(&skipped)?;
        Ok(counts)
    }

    fn reports(&self) -> bool {
        self.collective.rank() == 0
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.common.report()
    }

    fn say(&self, line: &str) -> Result<()> {
        if self.reports() { self.report().say(line) } else { Ok(()) }
    }

    /// The state, by which a training that is killed goes on.
    fn save(&mut self) -> Result<()> {
        if self.reports() {
            let learner = self.learner.state()?;
            let metadata = self.common.metadata.clone();
            let report = self.report();
            let standing = Standing { skipped: report.skipped().clone(), ..self.standing.clone() };
            report.run().save_state(&State { standing, metadata, learner })?;
        }
        self.saved = Instant::now();
        Ok(())
    }

    /// `what` is wrong.
    fn diverged(&self, what: &str) -> anyhow::Error {
        let lower = self.common.recipe.learning_rate / 10.0;
        let last = self.report().run().folder().join(LAST);
        let saved = match last.exists() {
            true => format!("{} holds what was saved last", last.display()),
            false => "nothing was saved yet".to_owned(),
        };
        anyhow!("{what}: begin anew with a lower learning rate, such as --set learning-rate={lower:e}; {saved}")
    }

    /// Saves what there is.
    ///
    /// # Errors
    /// Says that somebody interrupted, if nothing else is wrong.
    fn stop<T>(&mut self) -> Result<T> {
        let Standing { epoch, step, .. } = self.standing;
        self.save()?;
        if self.reports() {
            let metrics = json!({ "epoch": epoch, "step": step });
            let metadata = Metadata { metrics: Some(metrics), ..self.common.metadata.clone() };
            let checkpoint = self.learner.checkpoint(metadata)?;
            self.report().run().save(LAST, &checkpoint)?;
        }
        let folder = self.report().run().folder().to_owned();
        bail!(
            "interrupted in epoch {epoch} after step {step}; {} holds the weights, and trainer --resume {} goes on",
            folder.join(LAST).display(),
            folder.display()
        )
    }
}

/// What a replica studies, part after part.
enum Lessons {
    Photos(DataLoader),
    Features(std::vec::IntoIter<Vec<EpochItem>>),
}

impl Lessons {
    /// Has the next part studied, and says how long it was waited for.
    fn give(&mut self, epoch: usize, learner: &mut Learner, common: &Common) -> Result<Duration> {
        const ENDED: &str = "the epoch has no more parts";
        match self {
            Lessons::Photos(loader) => {
                let before = loader.wait_time();
                let batch = loader.next().context(ENDED)?;
                if !batch.skipped.is_empty() {
                    common.report().skip(&batch.skipped)?;
                }
                if let Some(images) = batch.images {
                    let plan = common
                        .mixing
                        .map(|mixing| mixing.draw(common.recipe.seed, epoch, &batch.items, images.shape()[1]));
                    learner.forward_backward(LearnerInput::Photos(&images, plan.unwrap_or_default()), &batch.classes);
                }
                Ok(loader.wait_time() - before)
            }
            Lessons::Features(parts) => {
                let features = common.features.as_ref().context("there are no features")?;
                let (rows, classes) = features.train.batch(&parts.next().context(ENDED)?, &common.dataset.train);
                if !classes.is_empty() {
                    learner.forward_backward(LearnerInput::Features(rows), &classes);
                }
                Ok(Duration::ZERO)
            }
        }
    }
}
