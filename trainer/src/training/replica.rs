//! One replica of a training run: epochs of steps, each followed by an evaluation.

use super::context::TrainingContext;
use super::display::{DisplayEvent, LineKind, PhotoTask, StepReport};
use super::metric_accumulator::{MetricAccumulator, MetricSummary};
use super::reporter::{Reporter, STEPS_PER_RECORD};
use super::run_folder::{BEST, LAST};
use super::state::{BestEpoch, TrainingPosition, TrainingState};
use super::teacher_predictions::TeacherPredictions;
use crate::data::{DataLoader, EpochItem, SampleLoader, sequential_batches, shuffled_batches, strided_part};
use crate::evaluation::{EvaluationSums, classify_samples};
use crate::learning::{DeferredMetrics, Learner, LearnerInput, NOT_FINITE, StepOutcome};
use crate::replicas::Collective;
use anyhow::{Context, Result, anyhow, bail, ensure};
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::{Device, Engine, EngineError, EngineOptions};
use parking_lot::MutexGuard;
use serde_json::json;
use std::collections::VecDeque;
use std::num::NonZero;
use std::time::{Duration, Instant};

/// One replica. The replica of rank 0 also reports and saves.
pub struct Replica<'a> {
    context: &'a TrainingContext,
    collective: Box<dyn Collective>,
    learner: Learner,
    teacher: Option<TeacherPredictions<'a>>,
    /// Device of the evaluation.
    device: Device,
    position: TrainingPosition,
    last_save: Instant,
}

impl<'a> Replica<'a> {
    pub fn new(
        context: &'a TrainingContext,
        collective: Box<dyn Collective>,
        learner: Learner,
        teacher: Option<TeacherPredictions<'a>>,
        device: Device,
        position: TrainingPosition,
    ) -> Self {
        Replica { context, collective, learner, teacher, device, position, last_save: Instant::now() }
    }

    /// Trains until the last epoch or early stopping.
    ///
    /// # Errors
    /// Returns an error if training diverges, if no photo can be decoded, if a file cannot be written, if the run is
    /// interrupted, or if another replica has ended. Saved states and checkpoints remain.
    pub fn run(mut self) -> Result<()> {
        if self.position.epoch == 0 {
            self.position.epoch = 1;
            // A run that is killed from here on can be resumed.
            self.save()?;
        }
        loop {
            let epoch = self.position.epoch;
            let trained = self.train()?;
            let checkpoint = self.learner.checkpoint(self.context.metadata.clone());
            let checkpoint = checkpoint.map_err(|error| self.diverged(&error.to_string()))?;
            self.save()?;
            self.evaluate(trained, checkpoint)?;
            let epochs_since_best = self.position.best.map_or(0, |best| epoch - best.epoch);
            if self.context.recipe.early_stopping.is_some_and(|patience| epochs_since_best >= patience) {
                return self.log(&format!("stopped early: no better top-1 for {epochs_since_best} epochs"));
            }
            if epoch == self.context.recipe.epochs {
                return Ok(());
            }
            self.position =
                TrainingPosition { epoch: epoch + 1, best: self.position.best, ..TrainingPosition::default() };
        }
    }

    /// Runs the remaining steps of the epoch.
    fn train(&mut self) -> Result<MetricSummary> {
        let TrainingContext { ref recipe, ref dataset, steps_per_epoch, .. } = *self.context;
        let TrainingPosition { epoch, step: done, metrics, seconds, .. } = self.position;
        let batches =
            shuffled_batches(dataset.training_count(), recipe.batch_size, recipe.repetitions, recipe.seed, epoch);
        let mut inputs = self.inputs(batches.into_iter().skip(done), epoch);

        self.show(DisplayEvent::EpochStarted(epoch));
        let mut metrics_of_epoch = EpochMetrics {
            whole_epoch: MetricAccumulator::resume(metrics, seconds),
            recent: MetricAccumulator::new(),
            submitted: VecDeque::new(),
        };
        for step in done + 1..=steps_per_epoch {
            let mut wait_time = Duration::ZERO;
            for _ in 0..recipe.accumulate {
                wait_time += inputs.run(epoch, &mut self.learner, self.teacher.as_ref(), self.context)?;
            }
            let learning_rate = self.context.learning_rate.at((epoch - 1) * steps_per_epoch + step - 1);
            let interrupted = f64::from(u8::from(self.context.interrupt.is_raised()));
            let (outcome, interrupted) = self.learner.update(learning_rate, interrupted, &*self.collective)?;
            match outcome {
                StepOutcome::Applied(metrics) => {
                    metrics_of_epoch.submitted.push_back(SubmittedStep { step, learning_rate, wait_time, metrics });
                }
                StepOutcome::Diverged(reason) => return Err(self.diverged_at(step, reason)),
            }
            // `run` saves the state after the last step.
            let is_due = self.last_save.elapsed() >= self.context.save_every || self.context.save_request.is_raised();
            let is_saved = step < steps_per_epoch && is_due;
            let reads_all = step == steps_per_epoch || interrupted > 0.0 || is_saved;
            // A GPU computes the next step while the metrics of this one are read.
            self.record_steps(&mut metrics_of_epoch, usize::from(!reads_all))?;
            if interrupted > 0.0 {
                return self.stop();
            }
            if is_saved {
                self.save()?;
            }
        }
        let whole_epoch = metrics_of_epoch.whole_epoch;
        ensure!(!whole_epoch.is_empty(), "none of the {} photos could be decoded", dataset.training_count());
        Ok(whole_epoch.summary())
    }

    /// Records the metrics of submitted steps, except for the last `keep` steps whose metrics are not known yet.
    fn record_steps(&mut self, metrics: &mut EpochMetrics, keep: usize) -> Result<()> {
        let EpochMetrics { whole_epoch, recent, submitted } = metrics;
        let TrainingContext { steps_per_epoch, .. } = *self.context;
        let epoch = self.position.epoch;
        while submitted.len() > keep || submitted.front().is_some_and(|step| step.metrics.is_known()) {
            let Some(SubmittedStep { step, learning_rate, wait_time, metrics }) = submitted.pop_front() else { break };
            let metrics = metrics.read();
            if !metrics.loss.is_finite() {
                return Err(self.diverged_at(step, NOT_FINITE));
            }
            whole_epoch.add(metrics, wait_time);
            recent.add(metrics, wait_time);
            self.position.step = step;
            (self.position.metrics, self.position.seconds) = (whole_epoch.sums(), whole_epoch.seconds());
            if self.is_reporting() {
                let MetricSummary { loss, top1, .. } = whole_epoch.summary();
                let images = metrics.images;
                self.show(DisplayEvent::Step(StepReport { epoch, step, loss, top1, images, waited: wait_time }));
                if (step % STEPS_PER_RECORD == 0 || step == steps_per_epoch) && !recent.is_empty() {
                    let recent = std::mem::replace(recent, MetricAccumulator::new());
                    self.reporter().report_steps(epoch, step, learning_rate, recent.summary())?;
                }
            }
        }
        Ok(())
    }

    /// Returns this replica's parts of the batches.
    fn inputs(&self, batches: impl Iterator<Item = Vec<EpochItem>>, epoch: usize) -> StepInputs {
        let TrainingContext { recipe, dataset, metadata, threads, .. } = self.context;
        let parts = self.collective.world_size() * recipe.accumulate;
        let first = self.collective.rank() * recipe.accumulate;
        let parts_of_replica: Vec<_> = batches
            .flat_map(|batch| (first..first + recipe.accumulate).map(move |part| strided_part(&batch, part, parts)))
            .collect();
        if self.context.features.is_some() {
            return StepInputs::Features(parts_of_replica.into_iter());
        }
        let sample_loader = SampleLoader::for_training(dataset, recipe, &metadata.preprocessing, epoch);
        StepInputs::Photos(DataLoader::new(sample_loader, parts_of_replica, threads.clone()))
    }

    /// Evaluates the weights of the epoch, divided among the replicas, and saves them with their metrics.
    fn evaluate(&mut self, trained: MetricSummary, checkpoint: Checkpoint) -> Result<()> {
        let EvaluationSums { loss, top1, top5, photos, skipped } = self.evaluate_part(&checkpoint)?;
        let interrupted = f64::from(u8::from(self.context.interrupt.is_raised()));
        let (_, sums) = self.collective.all_reduce(Vec::new(), &[loss, top1, top5, photos, skipped, interrupted])?;
        self.show(DisplayEvent::PhotosEnded);
        if sums[5] > 0.0 {
            return self.stop();
        }
        let sums = EvaluationSums { loss: sums[0], top1: sums[1], top5: sums[2], photos: sums[3], skipped: sums[4] };
        let val = sums.means()?;

        let epoch = self.position.epoch;
        let is_best = self
            .position
            .best
            .is_none_or(|best| val.top1 > best.top1 || (val.top1 == best.top1 && val.loss < best.loss));
        if is_best {
            self.position.best = Some(BestEpoch { epoch, top1: val.top1, loss: val.loss });
        }
        if !self.is_reporting() {
            return Ok(());
        }
        let metrics = json!({ "epoch": epoch, "top1": val.top1, "top5": val.top5, "loss": val.loss });
        let metadata = Metadata { metrics: Some(metrics), ..self.context.metadata.clone() };
        let checkpoint = checkpoint.with_metadata(metadata)?;
        let mut reporter = self.reporter();
        reporter.run_folder().save(LAST, &checkpoint)?;
        if is_best {
            reporter.run_folder().save(BEST, &checkpoint)?;
        }
        let learning_rate = self.context.learning_rate.at(epoch * self.context.steps_per_epoch - 1);
        reporter.report_epoch(epoch, learning_rate, trained, &val, is_best)
    }

    /// Evaluates this replica's part of the validation photos.
    fn evaluate_part(&self, checkpoint: &Checkpoint) -> Result<EvaluationSums> {
        let TrainingContext { recipe, dataset, metadata, threads, interrupt, features, .. } = self.context;
        let should_stop = || interrupt.is_raised() || self.collective.is_broken();
        let (rank, replicas) = (self.collective.rank(), self.collective.world_size());
        let batches = sequential_batches(dataset.val.len(), recipe.batch_size / replicas / recipe.accumulate);
        let batches = strided_part(&batches, rank, replicas);
        if let Some(features) = features {
            let (mut sums, classify) = (EvaluationSums::default(), self.learner.classifier());
            for batch in batches {
                let (rows, classes) = features.val.batch(&batch, &dataset.val);
                sums.skipped += (batch.len() - classes.len()) as f64;
                let logits = classify(rows);
                let rows = logits.chunks_exact(dataset.classes.len()).zip(classes);
                rows.for_each(|(row, class)| sums.add(metadata, row, class));
            }
            return Ok(sums);
        }
        let sample_loader = SampleLoader::for_evaluation(dataset.val.clone(), &metadata.preprocessing);
        let loader = DataLoader::new(sample_loader, batches, threads.clone());
        // Use the inference engine, because Burn takes many times as long on a CPU.
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let options = EngineOptions { threads: NonZero::new((cores / replicas).max(1)), ..EngineOptions::default() };
        let engine = Engine::prepare_from(checkpoint, self.device, options);
        let result = pollster::block_on(engine).map_err(Into::into);
        let mut sums = EvaluationSums::default();
        let count = dataset.val.len();
        self.reporter().show(DisplayEvent::PhotosStarted { task: PhotoTask::Validation, count });
        let result = result.and_then(|engine| {
            classify_samples(&engine, loader, should_stop, |_, logits, class| {
                sums.add(metadata, logits, class);
                self.reporter().show(DisplayEvent::PhotosDone(1));
            })
        });
        let skipped = result.map_err(|error| match error.downcast::<EngineError>() {
            // Finite weights may be so large that activations are not finite.
            Ok(error) => self.diverged(&error.to_string()),
            Err(error) => error,
        })?;
        sums.skipped = skipped.len() as f64;
        self.reporter().report_skipped(&skipped)?;
        Ok(sums)
    }

    fn is_reporting(&self) -> bool {
        self.collective.rank() == 0
    }

    fn reporter(&self) -> MutexGuard<'_, Reporter> {
        self.context.reporter()
    }

    fn log(&self, line: &str) -> Result<()> {
        if self.is_reporting() { self.reporter().log(line) } else { Ok(()) }
    }

    /// Shows an event, if this is the replica that reports.
    fn show(&self, event: DisplayEvent) {
        if self.is_reporting() {
            self.reporter().show(event);
        }
    }

    /// Saves the state, from which the run can be resumed.
    fn save(&mut self) -> Result<()> {
        if self.is_reporting() {
            let is_requested = self.context.save_request.take();
            let learner = self.learner.state()?;
            let metadata = self.context.metadata.clone();
            let mut reporter = self.reporter();
            let position = TrainingPosition { skipped: reporter.skipped().clone(), ..self.position.clone() };
            let TrainingPosition { epoch, step, .. } = position;
            reporter.run_folder().save_state(&TrainingState { position, metadata, learner })?;
            if is_requested {
                let text = format!("saved the state of epoch {epoch} after step {step}");
                reporter.show(DisplayEvent::Line { kind: LineKind::Log, text });
            }
        }
        self.last_save = Instant::now();
        Ok(())
    }

    /// Returns the error of a run that diverged in a step of the current epoch.
    fn diverged_at(&self, step: usize, reason: &str) -> anyhow::Error {
        self.diverged(&format!("epoch {}, step {step}: {reason}", self.position.epoch))
    }

    /// Returns the error of a diverged run, with advice.
    fn diverged(&self, problem: &str) -> anyhow::Error {
        let lower = self.context.recipe.learning_rate / 10.0;
        let last = self.reporter().run_folder().path().join(LAST);
        let saved = match last.exists() {
            true => format!("last checkpoint: {}", last.display()),
            false => "no checkpoint was saved".to_owned(),
        };
        anyhow!("{problem}; start again with a lower learning rate, such as --set learning-rate={lower:e} ({saved})")
    }

    /// Saves the state and the weights of an interrupted run.
    ///
    /// # Errors
    /// Always returns an error: that the run was interrupted, unless a file cannot be written.
    fn stop<T>(&mut self) -> Result<T> {
        let TrainingPosition { epoch, step, .. } = self.position;
        self.save()?;
        if self.is_reporting() {
            let metrics = json!({ "epoch": epoch, "step": step });
            let metadata = Metadata { metrics: Some(metrics), ..self.context.metadata.clone() };
            let checkpoint = self.learner.checkpoint(metadata)?;
            self.reporter().run_folder().save(LAST, &checkpoint)?;
        }
        let folder = self.reporter().run_folder().path().to_owned();
        bail!(
            "interrupted in epoch {epoch} after step {step}; saved {}; resume with `trainer --resume {}`",
            folder.join(LAST).display(),
            folder.display()
        )
    }
}

/// Metrics of the steps of an epoch.
struct EpochMetrics {
    whole_epoch: MetricAccumulator,
    /// Steps since the last record.
    recent: MetricAccumulator,
    /// Steps whose metrics have not been recorded yet.
    submitted: VecDeque<SubmittedStep>,
}

/// A step that was submitted to the device.
struct SubmittedStep {
    step: usize,
    learning_rate: f64,
    /// Time that the step waited for photos.
    wait_time: Duration,
    metrics: DeferredMetrics,
}

/// The inputs of a replica's steps, one part of a batch after the other.
enum StepInputs {
    Photos(DataLoader),
    Features(std::vec::IntoIter<Vec<EpochItem>>),
}

impl StepInputs {
    /// Runs the forward and backward pass of the next part, and returns how long it waited for the part.
    fn run(
        &mut self,
        epoch: usize,
        learner: &mut Learner,
        teacher: Option<&TeacherPredictions>,
        context: &TrainingContext,
    ) -> Result<Duration> {
        const ENDED: &str = "no more parts in this epoch";
        match self {
            StepInputs::Photos(loader) => {
                let before = loader.wait_time();
                let batch = loader.next().context(ENDED)?;
                if !batch.skipped.is_empty() {
                    context.reporter().report_skipped(&batch.skipped)?;
                }
                if let Some(images) = batch.images {
                    let plan = context
                        .mixing
                        .map(|mixing| mixing.draw(context.recipe.seed, epoch, &batch.items, images.shape()[1]));
                    let plan = plan.unwrap_or_default();
                    let logits = teacher.map(|teacher| teacher.logits(&batch.items, &images, &plan)).transpose()?;
                    learner.forward_backward(LearnerInput::Photos(&images, plan), &batch.classes, logits.as_deref());
                }
                Ok(loader.wait_time() - before)
            }
            StepInputs::Features(parts) => {
                let features = context.features.as_ref().context("no features were computed")?;
                let (rows, classes) = features.train.batch(&parts.next().context(ENDED)?, &context.dataset.train);
                if !classes.is_empty() {
                    let classes: Vec<_> = classes.into_iter().map(Some).collect();
                    learner.forward_backward(LearnerInput::Features(rows), &classes, None);
                }
                Ok(Duration::ZERO)
            }
        }
    }
}
