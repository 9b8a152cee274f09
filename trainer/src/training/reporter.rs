//! Reporting of a training run: to the terminal, `log.txt`, `metrics.jsonl` and the event files of TensorBoard.

use super::display::{Display, DisplayEvent, LineKind, PlainDisplay, RunOutline};
use super::metric_accumulator::MetricSummary;
use super::recorded_metrics::RecordedMetrics;
use super::run_folder::{LOG, METRICS, RunFolder};
use super::state::TrainingPosition;
use super::tensorboard::EventWriter;
use crate::data::SkippedSample;
use crate::evaluation::Evaluation;
use crate::number_text;
use anyhow::{Context, Error, Result};
use model::preprocess::Photo;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Number of steps between two records of an epoch.
pub const STEPS_PER_RECORD: usize = 10;

/// Number of lines of an earlier process's log that are shown again when a run is resumed.
const RESUMED_LOG_LINES: usize = 100;

/// Reports on one run, and owns its folder.
pub struct Reporter {
    run_folder: RunFolder,
    events: EventWriter,
    display: Box<dyn Display>,
    epochs: usize,
    steps_per_epoch: usize,
    /// Files that have been reported as skipped.
    skipped: BTreeSet<String>,
}

/// A line of `metrics.jsonl`. Epochs and steps count from 1.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum MetricsRecord<'a> {
    /// The computation of the features of this number of photos.
    Features { photos: usize, seconds: f64 },
    /// Up to [`STEPS_PER_RECORD`] steps of an epoch, the last of which is `step`, with its learning rate.
    Step { epoch: usize, step: usize, learning_rate: f64, train: MetricSummary },
    /// An epoch, with the learning rate of its last step, and the number of files skipped so far.
    Epoch { epoch: usize, learning_rate: f64, train: MetricSummary, val: &'a Evaluation, skipped: usize, best: bool },
}

impl Reporter {
    pub fn new(run_folder: RunFolder, display: Box<dyn Display>, epochs: usize, steps_per_epoch: usize) -> Self {
        let events = EventWriter::new(run_folder.path(), steps_per_epoch);
        Reporter { run_folder, events, display, epochs, steps_per_epoch, skipped: BTreeSet::new() }
    }

    /// Sets the position that the run starts at.
    ///
    /// # Errors
    /// Returns an error if the log or the metrics of a resumed run cannot be read.
    pub fn start_at(&mut self, position: &TrainingPosition) -> Result<()> {
        self.events.start_at(position);
        self.skipped.clone_from(&position.skipped);
        let (mut records, mut log) = (Vec::new(), Vec::new());
        if position.epoch > 0 {
            records = RecordedMetrics::read_all(&self.run_folder.path().join(METRICS))?;
            records.retain(|record| record.is_before(position));
            log = last_lines(&self.run_folder)?;
        }
        let folder = std::path::absolute(self.run_folder.path())?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (epoch, step) = (position.epoch.max(1), position.step);
        let Reporter { epochs, steps_per_epoch, .. } = *self;
        self.display.show(DisplayEvent::Started(RunOutline {
            name,
            epochs,
            steps_per_epoch,
            epoch,
            step,
            records,
            log,
        }));
        Ok(())
    }

    /// Closes the display, so that the terminal is restored. Later lines are printed plainly.
    pub fn close_display(&mut self) {
        self.display = Box::new(PlainDisplay::new());
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
        self.log_as(LineKind::Log, line)
    }

    fn log_as(&mut self, kind: LineKind, line: &str) -> Result<()> {
        self.display.show(DisplayEvent::Line { kind, text: line.to_owned() });
        self.run_folder.log(line)
    }

    /// Shows an event that is not logged.
    pub fn show(&mut self, event: DisplayEvent) {
        self.display.show(event);
    }

    /// Logs the error that ends the run. It is not printed here, because `main` does.
    pub fn log_error(&mut self, error: &Error) {
        // If the disk is full, logging fails for the same reason.
        self.run_folder.log(&format!("error: {error:#}")).ok();
    }

    /// Writes a record of the metrics.
    fn record(&mut self, record: &MetricsRecord) -> Result<()> {
        self.run_folder.record(record)?;
        self.display.show(DisplayEvent::Recorded(RecordedMetrics::from_record(record)?));
        Ok(())
    }

    /// Reports the images of the first batch, arranged in a grid, which is written to the event file only.
    pub fn report_first_batch(&mut self, grid: &Photo) -> Result<()> {
        self.events.write_first_batch(grid)
    }

    /// Reports the computation of the features on which the classifier is trained.
    pub fn report_features(&mut self, photos: usize, duration: Duration) -> Result<()> {
        self.record(&MetricsRecord::Features { photos, seconds: duration.as_secs_f64() })?;
        self.log(&format!("computed the features in {}", number_text::duration(duration)))
    }

    /// Reports the steps since the last report, up to `step`.
    pub fn report_steps(&mut self, epoch: usize, step: usize, learning_rate: f64, train: MetricSummary) -> Result<()> {
        self.record(&MetricsRecord::Step { epoch, step, learning_rate, train })?;
        self.events.write_steps(epoch, step, learning_rate, &train)?;
        let MetricSummary { loss, top1, images_per_second, .. } = train;
        let line = format!(
            "epoch {epoch}/{}, step {step}/{}: loss {loss:.3}, top-1 {:.1} %, learning rate {learning_rate:.2e}, \
             {images_per_second:.1} images/s",
            self.epochs,
            self.steps_per_epoch,
            100.0 * top1
        );
        self.log_as(LineKind::Steps, &line)
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
        let skipped = self.skipped.len();
        self.record(&MetricsRecord::Epoch { epoch, learning_rate, train, val, skipped, best })?;
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
        self.log_as(LineKind::Epoch, &line)
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

/// Returns the last lines of the log.
fn last_lines(run_folder: &RunFolder) -> Result<Vec<String>> {
    let path = run_folder.path().join(LOG);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    Ok(lines[lines.len().saturating_sub(RESUMED_LOG_LINES)..].to_vec())
}
