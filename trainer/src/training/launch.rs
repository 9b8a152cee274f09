//! A training from its first step, or where it stopped, to its last, with one replica or many.

use super::features::Features;
use super::interrupt::Interrupt;
use super::replica::{Common, Replica};
use super::report::Report;
use super::run::{BEST, LAST, Run};
use super::schedule::LearningRate;
use super::state::{Standing, State};
use crate::data::{Dataset, Sample, Threads};
use crate::learning::Learner;
use crate::learning::Mixing;
use crate::recipe::{ClassWeights, Layers, NamedWeights, Recipe};
use crate::replicas::together;
use crate::replicas::{ReplicaDevice, collectives};
use anyhow::{Error, Result};
use model::checkpoint::{Checkpoint, Metadata};
use std::sync::{Mutex, PoisonError};
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
        let result = together(collectives(&devices), |rank, collective| replica(&devices[rank], collective));
        let mut report = common.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = result {
            let error = explained(error, &common.recipe);
            report.ended_by(&error);
            return Err(error);
        }
        report.say(&format!("done: {} is the best, {LAST} the last", report.run().folder().join(BEST).display()))
    }
}

/// A device that is short of memory says so in words alone.
fn explained(error: Error, recipe: &Recipe) -> Error {
    let text = format!("{error:#}").to_lowercase();
    if !["out of memory", "outofmemory", "out_of_memory", "buffer too big"].iter().any(|sign| text.contains(sign)) {
        return error;
    }
    let Recipe { batch_size, accumulate, .. } = recipe;
    error.context(format!(
        "memory is short: try --batch-size {}, or --set accumulate={}, which computes the same in more parts",
        batch_size / 2,
        2 * accumulate
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn short_memory_names_a_batch_size_to_try() {
        let recipe = Recipe::changed(&["batch-size=64", "accumulate=2"]);
        let error = explained(anyhow!("a replica failed: CUDA_ERROR_OUT_OF_MEMORY"), &recipe);
        let text = format!("{error:#}");
        assert!(text.contains("--batch-size 32, or --set accumulate=4") && text.contains("CUDA"), "{text}");
        assert_eq!(explained(anyhow!("no disk"), &recipe).to_string(), "no disk");
    }
}
