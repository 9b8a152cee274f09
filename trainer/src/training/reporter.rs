//! Reporting of a training run: to the terminal, `log.txt`, `metrics.jsonl` and the event files of TensorBoard.

use super::metric_accumulator::{MetricAccumulator, MetricSummary};
use super::run_folder::RunFolder;
use super::state::TrainingPosition;
use super::tensorboard::EventWriter;
use crate::console;
use crate::data::SkippedSample;
use crate::evaluation::Evaluation;
use crate::progress::Progress;
use anyhow::{Error, Result};
use model::preprocess::Photo;
use serde::Serialize;
use std::collections::BTreeSet;

/// Number of steps between two records of an epoch.
pub const STEPS_PER_RECORD: usize = 10;

/// Reports on one run, and owns its folder.
pub struct Reporter {
    run_folder: RunFolder,
    events: EventWriter,
    progress: Progress,
    epochs: usize,
    steps_per_epoch: usize,
    /// Files that have been reported as skipped.
    skipped: BTreeSet<String>,
}

/// A line of `metrics.jsonl`. Epochs and steps count from 1.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum MetricsRecord<'a> {
    /// Up to [`STEPS_PER_RECORD`] steps of an epoch, the last of which is `step`, with its learning rate.
    Step { epoch: usize, step: usize, learning_rate: f64, train: MetricSummary },
    /// An epoch, with the learning rate of its last step, and the number of files skipped so far.
    Epoch { epoch: usize, learning_rate: f64, train: MetricSummary, val: &'a Evaluation, skipped: usize, best: bool },
}

impl Reporter {
    pub fn new(run_folder: RunFolder, epochs: usize, steps_per_epoch: usize) -> Self {
        let progress = Progress::of_steps(epochs * steps_per_epoch);
        let events = EventWriter::new(run_folder.path(), steps_per_epoch);
        Reporter { run_folder, events, progress, epochs, steps_per_epoch, skipped: BTreeSet::new() }
    }

    /// Sets the position that the run starts at.
    pub fn start_at(&mut self, position: &TrainingPosition) {
        self.events.start_at(position);
        self.skipped.clone_from(&position.skipped);
        let epochs = position.epoch.saturating_sub(1);
        self.progress.start_at((epochs * self.steps_per_epoch + position.step) as u64);
    }

    /// Returns the files that could not be decoded so far.
    pub fn skipped(&self) -> &BTreeSet<String> {
        &self.skipped
    }

    /// Returns the folder of the run.
    pub fn run_folder(&self) -> &RunFolder {
        &self.run_folder
    }

    /// Prints and logs a line.
    pub fn log(&mut self, line: &str) -> Result<()> {
        self.progress.suspend(|| console::print_progress(line));
        self.run_folder.log(line)
    }

    /// Logs the error that ends the run. It is not printed here, because `main` does.
    pub fn log_error(&mut self, error: &Error) {
        // If the disk is full, logging fails for the same reason.
        self.run_folder.log(&format!("error: {error:#}")).ok();
    }

    /// Advances the progress bar by a step; `metrics` are those of the epoch so far.
    pub fn advance(&self, epoch: usize, metrics: &MetricAccumulator) {
        self.progress.set_message(|| {
            let MetricSummary { loss, top1, images_per_second, waiting, .. } = metrics.summary();
            let [top1, waiting] = [top1, waiting].map(|fraction| 100.0 * fraction);
            format!("epoch {epoch}, loss {loss:.3}, top-1 {top1:.1} %, {images_per_second:.1} images/s, {waiting:.0} % waiting")
        });
        self.progress.advance(1);
    }

    /// Reports the images of the first batch, arranged in a grid, which is written to the event file only.
    pub fn report_first_batch(&mut self, grid: &Photo) -> Result<()> {
        self.events.write_first_batch(grid)
    }

    /// Reports the steps since the last report, up to `step`.
    pub fn report_steps(&mut self, epoch: usize, step: usize, learning_rate: f64, train: MetricSummary) -> Result<()> {
        self.run_folder.record(&MetricsRecord::Step { epoch, step, learning_rate, train })?;
        self.events.write_steps(epoch, step, learning_rate, &train)?;
        let MetricSummary { loss, top1, images_per_second, .. } = train;
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
        self.run_folder.log(&line)
    }

    /// Reports an epoch and its evaluation. `best` says whether it is the best epoch so far.
    pub fn report_epoch(
        &mut self,
        epoch: usize,
        learning_rate: f64,
        train: MetricSummary,
        val: &Evaluation,
        best: bool,
    ) -> Result<()> {
        self.run_folder.record(&MetricsRecord::Epoch {
            epoch,
            learning_rate,
            train,
            val,
            skipped: self.skipped.len(),
            best,
        })?;
        self.events.write_epoch(epoch, &train, val)?;
        let MetricSummary { loss, top1, seconds, images_per_second, waiting } = train;
        let line = format!(
            "epoch {epoch}/{}: loss {loss:.3}, top-1 {:.1} %; validation: {val}; {images_per_second:.1} images/s, \
             {:.0} % of {seconds:.0} s waiting for photos{}",
            self.epochs,
            100.0 * top1,
            100.0 * waiting,
            if best { "; best so far" } else { "" }
        );
        self.log(&line)
    }

    /// Reports skipped files, each file once per run.
    pub fn report_skipped(&mut self, skipped: &[SkippedSample]) -> Result<()> {
        for SkippedSample { location, reason } in skipped {
            if self.skipped.insert(location.to_string()) {
                self.log(&format!("skipped {location}: {reason}"))?;
            }
        }
        Ok(())
    }
}
