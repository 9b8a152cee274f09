//! A training from its first step, or where it stopped, to its last, with one replica or many.

use super::features::Features;
use super::interrupt::Interrupt;
use super::replica::{Common, Replica};
use super::report::Report;
use super::run::{BEST, LAST, Run};
use super::schedule::LearningRate;
use super::state::{Standing, State};
use crate::data::{Dataset, Sample, LoaderThreads};
use crate::learning::{Learner, Mixing};
use crate::recipe::{ClassWeights, TrainedLayers, NamedClassWeights, Recipe};
use crate::replicas::{ReplicaDevice, collectives, run_replicas};
use anyhow::{Error, Result};
use indicatif::HumanDuration;
use model::checkpoint::{Checkpoint, Metadata};
use parking_lot::Mutex;
use std::path::Path;
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
    pub threads: LoaderThreads,
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
        let begun = Instant::now();
        let Training { recipe, dataset, start, state, run, devices, threads, interrupt, save_every } = self;
        let class_weights = class_weights(&recipe, &dataset);
        let steps_per_epoch = dataset.train.len() / recipe.batch_size;
        let learning_rate = LearningRate::new(&recipe, steps_per_epoch);
        let report = Mutex::new(Report::new(run, recipe.epochs, steps_per_epoch));
        let metadata = Metadata { recipe: Some(serde_json::to_value(&recipe)?), ..start.metadata().clone() };
        let warmup = learning_rate.warmup();
        let standing = state.as_ref().map(|state| state.standing.clone()).unwrap_or_default();
        let mut common = Common {
            mixing: Mixing::new(&recipe, devices.len() * recipe.accumulate),
            recipe,
            dataset,
            metadata,
            learning_rate,
            steps_per_epoch,
            features: None,
            threads,
            interrupt,
            report,
            save_every,
        };
        let mut prepare = || -> Result<()> {
            introduce(&common, &standing, &devices)?;
            if common.recipe.layers == TrainedLayers::Head {
                common.features = Some(features(&common, &start, &devices[0])?);
            }
            Ok(())
        };
        let prepared = prepare();
        let replica = |device: &ReplicaDevice, collective| -> Result<()> {
            let mut learner = Learner::new(&start, &common.recipe, class_weights.clone(), warmup, &device.device);
            if let Some(state) = &state {
                learner.load_state(&state.metadata, state.learner.clone())?;
            }
            Replica::new(&common, collective, learner, device.name, standing.clone()).run()
        };
        let result = prepared
            .and_then(|()| run_replicas(collectives(&devices), |rank, collective| replica(&devices[rank], collective)));
        let mut report = common.report();
        if let Err(error) = result {
            let error = explained(error, &common.recipe, devices.len(), report.run().folder());
            report.ended_by(&error);
            return Err(error);
        }
        let best = report.run().folder().join(BEST);
        let took = HumanDuration(begun.elapsed());
        report.say(&format!("done in {took}: {} is the best, {LAST} the last", best.display()))
    }
}

/// What can be done, if something can.
fn explained(error: Error, recipe: &Recipe, replicas: usize, run: &Path) -> Error {
    // Causes are of many types, and a device that is short of memory says so in words alone.
    let text = format!("{error:#}").to_lowercase();
    let says = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if says(&["no space left", "file too large", "quota exceeded"]) {
        let advice =
            format!("the disk is full: make room, and trainer --resume {} goes on from its last state", run.display());
        return error.context(advice);
    }
    if !says(&["out of memory", "outofmemory", "out_of_memory", "buffer too big"]) {
        return error;
    }
    let Recipe { batch_size, accumulate, .. } = *recipe;
    let parts = replicas * accumulate;
    let half = (batch_size / 2 / parts * parts).max(2 * parts);
    error.context(format!(
        "memory is short: try --batch-size {half}, or --set accumulate={}, which computes the same in more parts",
        2 * accumulate
    ))
}

/// What begins or goes on, and the files that tell what it is.
fn introduce(common: &Common, standing: &Standing, devices: &[ReplicaDevice]) -> Result<()> {
    let Common { recipe, dataset, metadata, .. } = common;
    let Metadata { architecture, labels, preprocessing, .. } = metadata;
    let mut report = common.report();
    report.at(standing);
    let folder = report.run().folder().to_owned();
    let names: Vec<_> = devices.iter().map(|device| device.name.to_string()).collect();
    let on = names.join(", ");
    if standing.epoch > 0 {
        let Standing { epoch, step, .. } = standing;
        return report.say(&format!("{} goes on in epoch {epoch} after step {step}, on {on}", folder.display()));
    }
    let sides: Vec<_> = recipe.train_sizes.iter().map(|(_, side)| side.to_string()).collect();
    let trained = if sides.is_empty() { String::new() } else { format!(" (trained at {})", sides.join(", ")) };
    let begins = format!(
        "{architecture}, {} classes, {} photos to train on and {} to validate with, {} px{trained}, {} epochs of {} steps \
         on {on}, into {}",
        dataset.classes.len(),
        dataset.train.len(),
        dataset.val.len(),
        preprocessing.crop,
        recipe.epochs,
        common.steps_per_epoch,
        folder.display()
    );
    let lines = |names: &[String]| names.join("\n") + "\n";
    report.run().write("classes.txt", &lines(&dataset.classes))?;
    report.run().write("labels.txt", &lines(labels))?;
    report.run().write("recipe.toml", &recipe.to_toml()?)?;
    report.say(&begins)?;
    let unseen = |class: &usize| !dataset.val.iter().any(|sample| sample.class == *class);
    let unseen: Vec<_> =
        (0..dataset.classes.len()).filter(unseen).map(|class| dataset.classes[class].as_str()).collect();
    if !unseen.is_empty() {
        report.say(&format!("nothing validates {}", unseen.join(", ")))?;
    }
    Ok(())
}

fn features(common: &Common, start: &Checkpoint, device: &ReplicaDevice) -> Result<Features> {
    let begun = Instant::now();
    let Common { dataset, threads, interrupt, .. } = common;
    let photos = dataset.train.len() + dataset.val.len();
    let says = format!("what the layers in front of the classifier make of {photos} photos is computed, once");
    common.report().say(&says)?;
    let (features, skipped) = Features::compute(start, dataset, device.name, threads, interrupt)?;
    common.report().skip(&skipped)?;
    common.report().say(&format!("that took {:.1} s", begun.elapsed().as_secs_f64()))?;
    Ok(features)
}

/// By class, if they do not all count alike.
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
    fn short_memory_names_a_batch_size_to_try() {
        let recipe = Recipe::finetune_with(&["batch-size=64", "accumulate=2"]);
        let error = explained(anyhow!("a replica failed: CUDA_ERROR_OUT_OF_MEMORY"), &recipe, 1, Path::new("run"));
        let text = format!("{error:#}");
        assert!(text.contains("--batch-size 32, or --set accumulate=4") && text.contains("CUDA"), "{text}");
        assert_eq!(explained(anyhow!("no disk"), &recipe, 1, Path::new("run")).to_string(), "no disk");
    }
}
