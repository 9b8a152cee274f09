//! A training from its first step, or where it stopped, to its last, with one replica or many.

use super::collective::Lost;
use super::devices::{ReplicaDevice, collectives};
use super::features::Features;
use super::interrupt::Interrupt;
use super::learner::Learner;
use super::mixing::Mixing;
use super::replica::{Common, Replica};
use super::report::Report;
use super::run::{BEST, LAST, Run};
use super::schedule::LearningRate;
use super::state::{Standing, State};
use crate::data::{Dataset, Sample, Threads};
use crate::recipe::{ClassWeights, Layers, NamedWeights, Recipe};
use anyhow::{Error, Result, anyhow};
use model::checkpoint::{Checkpoint, Metadata};
use std::any::Any;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// All that a training is made of.
pub struct Training {
    pub recipe: Recipe,
    pub dataset: Dataset,
    /// The weights to start from, which describe what comes out.
    pub start: Checkpoint,
    /// Where it stopped, if it goes on.
    pub state: Option<State>,
    pub run: Run,
    /// One for each replica.
    pub devices: Vec<ReplicaDevice>,
    pub threads: Threads,
    pub interrupt: Interrupt,
    /// From one state to the next, within an epoch.
    pub save_every: Duration,
}

impl Training {
    /// Trains, and fills the run's folder.
    ///
    /// # Errors
    /// Whatever ends a replica; what was saved before stays.
    pub fn run(self) -> Result<()> {
        let Training { recipe, dataset, start, state, run, devices, threads, interrupt, save_every } = self;
        let class_weights = class_weights(&recipe, &dataset);
        let steps_per_epoch = dataset.train.len() / recipe.batch_size;
        let learning_rate = LearningRate::new(&recipe, steps_per_epoch);
        let mut report = Report::new(run, recipe.epochs, steps_per_epoch);
        introduce(&mut report, &recipe, &dataset, start.metadata(), state.as_ref(), devices.len())?;

        let features = match recipe.layers {
            Layers::All => None,
            Layers::Head => Some(features(&start, &dataset, &devices[0], &threads, &mut report)?),
        };
        let metadata = Metadata { recipe: Some(serde_json::to_value(&recipe)?), ..start.metadata().clone() };
        let warmup = learning_rate.warmup();
        let standing = state.as_ref().map(|state| state.standing.clone()).unwrap_or_default();
        report.at(&standing);
        let report = Mutex::new(report);
        let common = Common {
            mixing: Mixing::new(&recipe),
            recipe,
            dataset,
            metadata,
            learning_rate,
            steps_per_epoch,
            features,
            threads,
            interrupt,
            report,
            save_every,
        };
        let replica = |device: &ReplicaDevice, collective| -> Result<()> {
            let mut learner = Learner::new(&start, &common.recipe, class_weights.clone(), warmup, &device.device);
            if let Some(state) = &state {
                learner.remember(&state.metadata, state.memory.clone())?;
            }
            Replica::new(&common, collective, learner, device.name, standing.clone()).run()
        };
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let replica = &replica;
            let threads = devices.iter().zip(collectives(&devices)).map(|(device, collective)| {
                // A panic takes the collective with it, so that nobody waits for it.
                scope.spawn(move || replica(device, collective))
            });
            let threads: Vec<_> = threads.collect();
            let ended = |thread: thread::ScopedJoinHandle<Result<()>>| {
                thread.join().unwrap_or_else(|panic| Err(panicked(&*panic, &common.recipe)))
            };
            threads.into_iter().map(ended).collect()
        });
        let mut report = common.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = cause(results) {
            report.ended_by(&error);
            return Err(error);
        }
        report.say(&format!("done: {} is the best, {LAST} the last", report.run().folder().join(BEST).display()))
    }
}

/// What brought a run down: not that others missed whoever it was.
fn cause(results: Vec<Result<()>>) -> Option<Error> {
    let (missed, causes): (Vec<_>, Vec<_>) =
        results.into_iter().filter_map(Result::err).partition(|error| error.is::<Lost>());
    causes.into_iter().chain(missed).next()
}

/// What a replica's panic says. Burn has no other way to tell that memory is short.
fn panicked(panic: &(dyn Any + Send), recipe: &Recipe) -> Error {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_else(|| "a replica failed".to_owned());
    let lower = text.to_lowercase();
    if ["out of memory", "outofmemory", "bufferstoobig", "buffertoobig"].iter().any(|sign| lower.contains(sign)) {
        let accumulate = 2 * recipe.accumulate;
        return anyhow!(
            "out of memory: try --batch-size {}, or --set accumulate={accumulate}, which computes the same in more parts ({text})",
            recipe.batch_size / 2,
        );
    }
    anyhow!("a replica failed: {text}")
}

/// What begins, and the files that tell what it was.
fn introduce(
    report: &mut Report,
    recipe: &Recipe,
    dataset: &Dataset,
    metadata: &Metadata,
    state: Option<&State>,
    replicas: usize,
) -> Result<()> {
    let Metadata { architecture, labels, preprocessing, .. } = metadata;
    if let Some(State { standing: Standing { epoch, step, .. }, .. }) = state {
        return report.say(&format!("{} goes on in epoch {epoch} after step {step}", report.run().folder().display()));
    }
    let begins = format!(
        "{architecture}, {} classes, {} photos to train on and {} to validate with, {} px, {} epochs of {} steps{}, into {}",
        dataset.classes.len(),
        dataset.train.len(),
        dataset.val.len(),
        preprocessing.crop,
        recipe.epochs,
        dataset.train.len() / recipe.batch_size,
        if replicas > 1 { format!(" on {replicas} replicas") } else { String::new() },
        report.run().folder().display()
    );
    let lines = |names: &[String]| names.join("\n") + "\n";
    report.run().write("classes.txt", &lines(&dataset.classes))?;
    report.run().write("labels.txt", &lines(labels))?;
    report.run().write("recipe.toml", &recipe.to_toml()?)?;
    report.say(&begins)
}

fn features(
    start: &Checkpoint,
    dataset: &Dataset,
    device: &ReplicaDevice,
    threads: &Threads,
    report: &mut Report,
) -> Result<Features> {
    let begun = Instant::now();
    let photos = dataset.train.len() + dataset.val.len();
    report.say(&format!("what the layers in front of the classifier make of {photos} photos is computed, once"))?;
    let (features, skipped) = Features::compute(start, dataset, device.name, threads)?;
    report.skip(&skipped)?;
    report.say(&format!("that took {:.1} s", begun.elapsed().as_secs_f64()))?;
    Ok(features)
}

/// By class, if they do not all count alike.
fn class_weights(recipe: &Recipe, dataset: &Dataset) -> Option<Vec<f64>> {
    match recipe.class_weights.as_ref()? {
        ClassWeights::Each(weights) => Some(weights.clone()),
        ClassWeights::Named(NamedWeights::Balanced) => {
            let mut counts = vec![0.0; dataset.classes.len()];
            dataset.train.iter().for_each(|Sample { class, .. }| counts[*class] += 1.0);
            let mean = dataset.train.len() as f64 / counts.len() as f64;
            Some(counts.into_iter().map(|count| mean / count).collect())
        }
    }
}
