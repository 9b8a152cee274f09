//! The loop over epochs.

use super::evaluation::evaluate;
use super::interrupt::Interrupt;
use super::learner::Learner;
use super::report::{Report, STEPS_PER_RECORD};
use super::run::Run;
use super::schedule::LearningRate;
use super::tally::{Summary, Tally};
use crate::data::{Augmentation, Dataset, Loader, Sample, Source, Threads, View, in_order, shuffled};
use crate::recipe::Recipe;
use anyhow::{Context, Result, anyhow, ensure};
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::{Device, Engine, EngineError, EngineOptions};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The checkpoint of the last epoch, and that of the best one by top-1.
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";

/// A training that is about to begin.
pub struct Training {
    recipe: Recipe,
    dataset: Dataset,
    /// Of every checkpoint, but for its metrics.
    metadata: Metadata,
    learner: Learner,
    learning_rate: LearningRate,
    steps_per_epoch: usize,
    report: Report,
    threads: Threads,
    interrupt: Interrupt,
    /// Top-1 of [`BEST`], and its loss.
    best: Option<(f64, f64)>,
}

impl Training {
    /// `start` holds the weights to start from and describes what comes out. There is at least a batch to train on.
    pub fn new(
        recipe: Recipe,
        dataset: Dataset,
        start: &Checkpoint,
        run: Run,
        threads: Threads,
        interrupt: Interrupt,
    ) -> Result<Self> {
        let steps_per_epoch = dataset.train.len() / recipe.batch_size;
        let metadata = Metadata { recipe: Some(serde_json::to_value(&recipe)?), ..start.metadata().clone() };
        Ok(Training {
            learner: Learner::new(start, &recipe),
            learning_rate: LearningRate::new(&recipe, steps_per_epoch),
            report: Report::new(run, recipe.epochs, steps_per_epoch),
            best: None,
            recipe,
            dataset,
            metadata,
            steps_per_epoch,
            threads,
            interrupt,
        })
    }

    /// Trains, and fills the run's folder.
    ///
    /// # Errors
    /// If the loss is not finite, if nothing can be decoded or written, and if somebody interrupts; whatever
    /// `last.safetensors` held before stays.
    pub fn run(mut self) -> Result<()> {
        let result = self.epochs();
        if let Err(error) = &result {
            self.report.ended_by(error);
        }
        result
    }

    fn epochs(&mut self) -> Result<()> {
        self.introduce()?;
        for epoch in 1..=self.recipe.epochs {
            let trained = self.train(epoch)?;
            let checkpoint = self.learner.checkpoint(self.metadata.clone());
            let checkpoint = checkpoint.map_err(|error| self.diverged(epoch, &error.to_string()))?;
            self.evaluate(epoch, trained, checkpoint)?;
        }
        let done = format!("done: {} is the best, {LAST} the last", self.report.run().folder().join(BEST).display());
        self.report.say(&done)
    }

    /// What begins, and the files that tell what it was.
    fn introduce(&mut self) -> Result<()> {
        let Dataset { classes, train, val, .. } = &self.dataset;
        let Metadata { architecture, labels, preprocessing, .. } = &self.metadata;
        let begins = format!(
            "{architecture}, {} classes, {} photos to train on and {} to validate with, {} px, {} epochs of {} steps, into {}",
            classes.len(),
            train.len(),
            val.len(),
            preprocessing.crop,
            self.recipe.epochs,
            self.steps_per_epoch,
            self.report.run().folder().display()
        );
        let lines = |names: &[String]| names.join("\n") + "\n";
        self.report.run().write("classes.txt", &lines(classes))?;
        self.report.run().write("labels.txt", &lines(labels))?;
        self.report.run().write("recipe.toml", &self.recipe.to_toml()?)?;
        self.report.say(&begins)
    }

    /// One epoch of steps.
    fn train(&mut self, epoch: usize) -> Result<Summary> {
        let Recipe { batch_size, seed, .. } = self.recipe;
        let augmentation = Augmentation::new(&self.recipe);
        let view = View::Drawn { augmentation, seed, epoch };
        let source = Source { cache: self.dataset.cache.clone(), ..self.source(&self.dataset.train, view) };
        let batches = shuffled(self.dataset.train.len(), batch_size, seed, epoch);
        let mut loader = Loader::new(source, batches, self.threads.clone());

        let (mut whole, mut recent) = (Tally::default(), Tally::default());
        let mut waited = Duration::ZERO;
        for step in 1..=self.steps_per_epoch {
            let batch = loader.next().context("the loader ended before the epoch")?;
            self.report.skip(&batch.skipped)?;
            let waiting = loader.waited() - std::mem::replace(&mut waited, loader.waited());
            let learning_rate = self.learning_rate.at((epoch - 1) * self.steps_per_epoch + step - 1);
            if let Some(images) = batch.images {
                let Some(outcome) = self.learner.step(&images, &batch.classes, learning_rate) else {
                    return Err(self.diverged(epoch, &format!("the loss of epoch {epoch}, step {step} is not finite")));
                };
                for tally in [&mut whole, &mut recent] {
                    tally.add(outcome, batch.classes.len(), waiting);
                }
            }
            self.report.step(epoch, &whole);
            if step % STEPS_PER_RECORD == 0 && !recent.is_empty() {
                self.report.steps(epoch, step, learning_rate, std::mem::take(&mut recent).summary())?;
            }
            if self.interrupt.is_raised() {
                return Err(self.interrupted(epoch, step)?);
            }
        }
        ensure!(!whole.is_empty(), "none of the {} photos could be decoded", self.dataset.train.len());
        Ok(whole.summary())
    }

    /// Evaluates the weights of an epoch and puts their metrics beside them.
    fn evaluate(&mut self, epoch: usize, trained: Summary, checkpoint: Checkpoint) -> Result<()> {
        let source = self.source(&self.dataset.val, View::Middle);
        let batches = in_order(self.dataset.val.len(), self.recipe.batch_size);
        let loader = Loader::new(source, batches, self.threads.clone());
        // What will answer with these weights; Burn's CPU backend would take many times as long.
        let engine = Engine::prepare_from(&checkpoint, Device::Cpu, EngineOptions::default());
        let engine = pollster::block_on(engine)?;
        let val = match evaluate(&engine, loader, &self.interrupt) {
            Ok(Some(val)) => val,
            Ok(None) => return Err(self.interrupted(epoch, self.steps_per_epoch)?),
            // Weights that are finite may still be too large to compute with; they are not saved.
            Err(error) if error.is::<EngineError>() => return Err(self.diverged(epoch, &error.to_string())),
            Err(error) => return Err(error),
        };
        self.report.skip(&val.skipped)?;

        let metrics = json!({ "epoch": epoch, "top1": val.top1, "top5": val.top5, "loss": val.loss });
        let checkpoint = checkpoint.with_metadata(Metadata { metrics: Some(metrics), ..self.metadata.clone() })?;
        self.report.run().save(LAST, &checkpoint)?;
        let best = self.best.is_none_or(|(top1, loss)| val.top1 > top1 || (val.top1 == top1 && val.loss < loss));
        if best {
            self.report.run().save(BEST, &checkpoint)?;
            self.best = Some((val.top1, val.loss));
        }
        self.report.epoch(epoch, trained, &val, best)
    }

    fn source(&self, samples: &Arc<[Sample]>, view: View) -> Source {
        Source { samples: samples.clone(), preprocessing: self.metadata.preprocessing.clone(), view, cache: None }
    }

    /// `what` is wrong, in this epoch.
    fn diverged(&self, epoch: usize, what: &str) -> anyhow::Error {
        let saved = match epoch {
            1 => "nothing was saved yet".to_owned(),
            _ => format!("{} holds the end of epoch {}", self.report.run().folder().join(LAST).display(), epoch - 1),
        };
        let lower = self.recipe.learning_rate / 10.0;
        anyhow!("{what}: try a lower learning rate, such as --set learning-rate={lower}; {saved}")
    }

    /// Saves what there is, and says so.
    fn interrupted(&mut self, epoch: usize, step: usize) -> Result<anyhow::Error> {
        let metrics = json!({ "epoch": epoch, "step": step });
        let checkpoint = self.learner.checkpoint(Metadata { metrics: Some(metrics), ..self.metadata.clone() })?;
        self.report.run().save(LAST, &checkpoint)?;
        let path = self.report.run().folder().join(LAST);
        Ok(anyhow!("interrupted in epoch {epoch} after step {step}; {} holds the weights", path.display()))
    }
}
