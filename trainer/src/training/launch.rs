//! Starts the replicas of a training run, and reports how the run ends.

use super::context::TrainingContext;
use super::display::{Display, DisplayEvent, PhotoTask};
use super::features::CachedFeatures;
use super::first_batch::FirstBatch;
use super::interrupt::Interrupt;
use super::replica::Replica;
use super::reporter::Reporter;
use super::run_folder::{BEST, LAST, RunFolder};
use super::save_request::SaveRequest;
use super::schedule::LearningRate;
use super::state::{TrainingPosition, TrainingState};
use super::teacher_predictions::{TeacherPredictions, open_teacher_logits};
use crate::data::{Dataset, LoaderThreads, Sample};
use crate::distillation::Teacher;
use crate::learning::{Learner, Mixing};
use crate::number_text;
use crate::recipe::{ClassWeights, NamedClassWeights, Recipe, TrainedLayers};
use crate::replicas::{ReplicaDevice, collectives, run_replicas};
use anyhow::{Error, Result};
use model::checkpoint::{Checkpoint, Metadata};
use parking_lot::Mutex;
use std::path::Path;
use std::time::{Duration, Instant};

/// A training run that is ready to start or to be resumed.
pub struct Training {
    pub recipe: Recipe,
    pub dataset: Dataset,
    /// Weights to start from. Their metadata becomes that of the checkpoints.
    pub initial_weights: Checkpoint,
    /// Teacher of the network, if the recipe distils.
    pub teacher: Option<Teacher>,
    /// State to resume from.
    pub state: Option<TrainingState>,
    pub run_folder: RunFolder,
    /// Device of each replica.
    pub devices: Vec<ReplicaDevice>,
    pub threads: LoaderThreads,
    pub interrupt: Interrupt,
    pub save_request: SaveRequest,
    pub display: Box<dyn Display>,
    /// Interval between two states within an epoch.
    pub save_every: Duration,
}

impl Training {
    /// Trains until the last epoch or early stopping, and writes the files of the run's folder.
    ///
    /// # Errors
    /// Returns the error that ended a replica. Saved states and checkpoints remain.
    pub fn run(self) -> Result<()> {
        let start_time = Instant::now();
        let Training { recipe, dataset, initial_weights, teacher, state, devices, .. } = self;
        let class_weights = class_weights(&recipe, &dataset);
        let steps_per_epoch = dataset.training_count() / recipe.batch_size;
        let learning_rate = LearningRate::new(&recipe, steps_per_epoch);
        let reporter = Mutex::new(Reporter::new(self.run_folder, self.display, recipe.epochs, steps_per_epoch));
        let metadata = Metadata { recipe: Some(serde_json::to_value(&recipe)?), ..initial_weights.metadata().clone() };
        let warmup = learning_rate.warmup();
        let position = state.as_ref().map(|state| state.position.clone()).unwrap_or_default();
        let mut context = TrainingContext {
            mixing: Mixing::new(&recipe, devices.len() * recipe.accumulate),
            recipe,
            dataset,
            metadata,
            learning_rate,
            steps_per_epoch,
            features: None,
            teacher,
            teacher_logits: None,
            threads: self.threads,
            interrupt: self.interrupt,
            save_request: self.save_request,
            reporter,
            save_every: self.save_every,
        };
        let mut prepare = || -> Result<()> {
            log_run_header(&context, &position, &devices)?;
            if position.is_before_first_step() {
                report_first_batch(&context, devices.len())?;
            }
            if context.recipe.layers == TrainedLayers::Head {
                context.features = Some(compute_features(&context, &initial_weights, &devices[0])?);
            }
            if context.recipe.has_fixed_images() {
                context.teacher_logits = open_teacher_logits(&context, devices[0].name)?;
            }
            Ok(())
        };
        let prepared = prepare();
        let replica = |device: &ReplicaDevice, collective| -> Result<()> {
            let mut learner = Learner::new(&initial_weights, &context.recipe, class_weights.clone(), warmup, device)?;
            if let Some(state) = &state {
                learner.load_state(&state.metadata, state.learner.clone())?;
            }
            let teacher = TeacherPredictions::prepare(&context, device.name, devices.len())?;
            Replica::new(&context, collective, learner, teacher, device.name, position.clone()).run()
        };
        let result = prepared
            .and_then(|()| run_replicas(collectives(&devices), |rank, collective| replica(&devices[rank], collective)));
        let mut reporter = context.reporter();
        reporter.close_display();
        if let Err(error) = result {
            let error = with_advice(error, &context.recipe, devices.len(), reporter.run_folder().path());
            reporter.log_error(&error);
            return Err(error);
        }
        let best = reporter.run_folder().path().join(BEST);
        let duration = number_text::duration(start_time.elapsed());
        reporter.log(&format!("done in {duration}; best checkpoint: {}, last: {LAST}", best.display()))
    }
}

/// Adds advice to an error of a full disk, or of exhausted memory.
fn with_advice(error: Error, recipe: &Recipe, replicas: usize, run_folder: &Path) -> Error {
    // Causes have many types, and devices report exhausted memory in their messages only.
    let text = format!("{error:#}").to_lowercase();
    let mentions = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if mentions(&["no space left", "file too large", "quota exceeded"]) {
        let advice =
            format!("disk is full; free some space and resume with `trainer --resume {}`", run_folder.display());
        return error.context(advice);
    }
    if !mentions(&["out of memory", "outofmemory", "out_of_memory", "buffer too big"]) {
        return error;
    }
    let Recipe { batch_size, accumulate, .. } = *recipe;
    let parts = replicas * accumulate;
    let half = (batch_size / 2 / parts * parts).max(2 * parts);
    error.context(format!(
        "out of memory; try --batch-size {half}, or --set accumulate={}, which splits each batch into more parts",
        2 * accumulate
    ))
}

/// Logs what is trained or resumed, and writes the files that describe a new run.
fn log_run_header(context: &TrainingContext, position: &TrainingPosition, devices: &[ReplicaDevice]) -> Result<()> {
    let TrainingContext { recipe, dataset, metadata, .. } = context;
    let Metadata { architecture, labels, preprocessing, .. } = metadata;
    let mut reporter = context.reporter();
    reporter.start_at(position)?;
    let folder = reporter.run_folder().path().to_owned();
    let names: Vec<_> = devices.iter().map(|device| device.name.to_string()).collect();
    let devices = names.join(", ");
    if position.epoch > 0 {
        let TrainingPosition { epoch, step, .. } = position;
        return reporter
            .log(&format!("resuming {} in epoch {epoch} after step {step}, on {devices}", folder.display()));
    }
    let sides: Vec<_> = recipe.train_sizes.iter().map(|(_, side)| side.to_string()).collect();
    let train_sizes = if sides.is_empty() { String::new() } else { format!(" (training at {})", sides.join(", ")) };
    let unlabelled = match dataset.unlabelled.len() {
        0 => String::new(),
        count => format!(", {count} unlabelled"),
    };
    let teacher = context
        .teacher
        .as_ref()
        .map(|teacher| format!(", with {} ({}) as the teacher", teacher.source, teacher.checkpoint.architecture()));
    let teacher = teacher.unwrap_or_default();
    let header = format!(
        "{architecture}, {} classes, {} training{unlabelled} and {} validation photos, {} px{train_sizes}, {} epochs of {} \
         steps on {devices}{teacher}, output folder {}",
        dataset.classes.len(),
        dataset.train.len(),
        dataset.val.len(),
        preprocessing.crop,
        recipe.epochs,
        context.steps_per_epoch,
        folder.display()
    );
    let lines = |names: &[String]| names.join("\n") + "\n";
    reporter.run_folder().write("classes.txt", &lines(&dataset.classes))?;
    reporter.run_folder().write("labels.txt", &lines(labels))?;
    reporter.run_folder().write("recipe.toml", &recipe.to_toml()?)?;
    reporter.log(&header)?;
    let is_missing = |class: &usize| !dataset.val.iter().any(|sample| sample.class == *class);
    let missing: Vec<_> =
        (0..dataset.classes.len()).filter(is_missing).map(|class| dataset.classes[class].as_str()).collect();
    if !missing.is_empty() {
        reporter.log(&format!("no validation photos of {}", missing.join(", ")))?;
    }
    Ok(())
}

fn report_first_batch(context: &TrainingContext, replicas: usize) -> Result<()> {
    let TrainingContext { recipe, dataset, metadata, threads, .. } = context;
    let batch = FirstBatch::load(recipe, dataset, &metadata.preprocessing, replicas, threads);
    // Training reports skipped files, and ends with an error if all of them are.
    batch.grid().map_or(Ok(()), |grid| context.reporter().report_first_batch(&grid))
}

fn compute_features(
    context: &TrainingContext,
    initial_weights: &Checkpoint,
    device: &ReplicaDevice,
) -> Result<CachedFeatures> {
    let start_time = Instant::now();
    let TrainingContext { dataset, threads, interrupt, .. } = context;
    let photos = dataset.train.len() + dataset.val.len();
    context
        .reporter()
        .log(&format!("computing the features of {photos} photos, on which the classifier is trained"))?;
    context.reporter().show(DisplayEvent::PhotosStarted { task: PhotoTask::Features, count: photos });
    let progress = |count| context.reporter().show(DisplayEvent::PhotosDone(count));
    let (features, skipped) =
        CachedFeatures::compute(initial_weights, dataset, device.name, threads, interrupt, progress)?;
    context.reporter().show(DisplayEvent::PhotosEnded);
    context.reporter().report_skipped(&skipped)?;
    context.reporter().report_features(photos, start_time.elapsed())?;
    Ok(features)
}

/// Returns the weight of each class, or `None` if all have the same.
fn class_weights(recipe: &Recipe, dataset: &Dataset) -> Option<Vec<f64>> {
    match recipe.class_weights.as_ref()? {
        ClassWeights::Each(weights) => Some(weights.clone()),
        ClassWeights::Named(NamedClassWeights::Balanced) => {
            let mut counts = vec![0.0; dataset.classes.len()];
            dataset.train.iter().for_each(|Sample { class, .. }| counts[*class] += 1.0);
            let mean = dataset.train.len() as f64 / counts.len() as f64;
            Some(counts.into_iter().map(|count| mean / count).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn out_of_memory_suggests_a_smaller_batch() {
        let recipe = Recipe::finetune_with(&["batch-size=64", "accumulate=2"]);
        let error = with_advice(anyhow!("a replica failed: CUDA_ERROR_OUT_OF_MEMORY"), &recipe, 1, Path::new("run"));
        let text = format!("{error:#}");
        assert!(text.contains("--batch-size 32, or --set accumulate=4") && text.contains("CUDA"), "{text}");
        assert_eq!(with_advice(anyhow!("no disk"), &recipe, 1, Path::new("run")).to_string(), "no disk");
    }
}
