//! What a training tells: whoever watches, and the run's folder.

use super::evaluation::Evaluation;
use super::run::Run;
use super::state::Standing;
use super::tally::{Summary, Tally};
use crate::console;
use crate::data::SkippedSample;
use crate::progress::Progress;
use anyhow::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;

/// Of an epoch, from one record to the next.
pub const STEPS_PER_RECORD: usize = 10;

/// On a run with so many epochs of so many steps.
pub struct Report {
    run: Run,
    progress: Progress,
    epochs: usize,
    steps_per_epoch: usize,
    /// What was named already.
    skipped: BTreeSet<String>,
}

/// A line of `metrics.jsonl`. Epochs and steps count from 1; shares are of 1.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Record<'a> {
    /// Some steps of an epoch, up to this one.
    Step { epoch: usize, step: usize, learning_rate: f64, train: Summary },
    /// A whole epoch, with the learning rate of its last step; `skipped` files were no photos so far.
    Epoch { epoch: usize, learning_rate: f64, train: Summary, val: &'a Evaluation, skipped: usize, best: bool },
}

impl Report {
    pub fn new(run: Run, epochs: usize, steps_per_epoch: usize) -> Self {
        let progress = Progress::of_steps(epochs * steps_per_epoch);
        Report { run, progress, epochs, steps_per_epoch, skipped: BTreeSet::new() }
    }

    /// Training goes on from there.
    pub fn at(&mut self, standing: &Standing) {
        self.skipped.clone_from(&standing.skipped);
        let epochs = standing.epoch.saturating_sub(1);
        self.progress.start_at((epochs * self.steps_per_epoch + standing.step) as u64);
    }

    /// What could not be decoded so far.
    pub fn skipped(&self) -> &BTreeSet<String> {
        &self.skipped
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    /// A line.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.progress.suspend(|| console::print_progress(line));
        self.run.log(line)
    }

    /// For the log alone: whoever watches hears of it from the command.
    pub fn ended_by(&mut self, error: &Error) {
        // A disk that is full may be the very error, and is no second one.
        self.run.log(&format!("error: {error:#}")).ok();
    }

    /// A step is done; `whole` is the epoch so far.
    pub fn step(&self, epoch: usize, whole: &Tally) {
        self.progress.set_message(|| {
            let Summary { loss, top1, images_per_second, waiting, .. } = whole.summary();
            let [top1, waiting] = [top1, waiting].map(|share| 100.0 * share);
            format!("epoch {epoch}, loss {loss:.3}, top-1 {top1:.1} %, {images_per_second:.1} images/s, {waiting:.0} % waiting")
        });
        self.progress.advance(1);
    }

    /// What the last steps came to, up to this one.
    pub fn steps(&mut self, epoch: usize, step: usize, learning_rate: f64, train: Summary) -> Result<()> {
        self.run.record(&Record::Step { epoch, step, learning_rate, train })?;
        let Summary { loss, top1, images_per_second, .. } = train;
        let line = format!(
            "epoch {epoch}/{}, step {step}/{}: loss {loss:.3}, top-1 {:.1} %, learning rate {learning_rate:.2e}, \
             {images_per_second:.1} images/s",
            self.epochs,
            self.steps_per_epoch,
            100.0 * top1
        );
        if self.progress.is_hidden() {
            console::print_progress(&line);
        }
        self.run.log(&line)
    }

    /// What an epoch came to.
    pub fn epoch(
        &mut self,
        epoch: usize,
        learning_rate: f64,
        train: Summary,
        val: &Evaluation,
        best: bool,
    ) -> Result<()> {
        self.run.record(&Record::Epoch { epoch, learning_rate, train, val, skipped: self.skipped.len(), best })?;
        let Summary { loss, top1, seconds, images_per_second, waiting } = train;
        let line = format!(
            "epoch {epoch}/{}: loss {loss:.3}, top-1 {:.1} %; validation: {val}; {images_per_second:.1} images/s, \
             {:.0} % of {seconds:.0} s waiting for photos{}",
            self.epochs,
            100.0 * top1,
            100.0 * waiting,
            if best { "; best so far" } else { "" }
        );
        self.say(&line)
    }

    /// Names each file once, however many epochs meet it.
    pub fn skip(&mut self, skipped: &[SkippedSample]) -> Result<()> {
        for SkippedSample { location, reason } in skipped {
            if self.skipped.insert(location.to_string()) {
                self.say(&format!("skipped {location}: {reason}"))?;
            }
        }
        Ok(())
    }
}
