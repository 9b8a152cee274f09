//! A run's folder: all that is left of a training, for somebody who was not there.

use super::state::{Standing, State};
use crate::output_folder;
use anyhow::{Context, Result, anyhow, bail};
use model::checkpoint::{Checkpoint, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Where runs go that nobody names a folder for.
const RUNS: &str = "runs";

/// The checkpoint of the last epoch, and that of the best one by top-1.
pub const LAST: &str = "last.safetensors";
pub const BEST: &str = "best.safetensors";

/// States of the training, by which it goes on: this many of the last ones.
const STATES: &str = "states";
const KEPT: usize = 2;
/// What its recipe does not tell of a run.
const SETUP: &str = "setup.toml";

/// What its recipe does not tell of a run, so that it can go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Setup {
    /// Folders of photos, or shards.
    pub data: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// What there was to train on and to validate with: see [`Dataset::fingerprint`](crate::data::Dataset::fingerprint).
    pub photos: String,
    /// By name, or as many GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<NonZero<usize>>,
}

/// A folder with `recipe.toml`, `setup.toml`, `classes.txt`, `labels.txt`, `log.txt`, `metrics.jsonl`, the checkpoints
/// `last.safetensors` and `best.safetensors`, and `states`.
pub struct Run {
    folder: PathBuf,
    log: File,
    metrics: File,
    /// From where on `metrics.jsonl` tells what comes again.
    later: Option<Standing>,
}

impl Run {
    /// Makes the folder, by default `runs/RECIPE-1` or whatever number is free.
    ///
    /// # Errors
    /// If there is something in it already.
    pub fn create(folder: Option<PathBuf>, recipe: &str) -> Result<Self> {
        let folder = match folder {
            Some(folder) => {
                output_folder::take(&folder)?;
                folder
            }
            None => free(Path::new(RUNS), recipe)?,
        };
        let create = |name: &str| {
            let path = folder.join(name);
            File::create_new(&path).with_context(|| format!("{} cannot be written", path.display()))
        };
        let (log, metrics) = (create("log.txt")?, create("metrics.jsonl")?);
        lock(&log, &folder)?;
        let states = folder.join(STATES);
        fs::create_dir(&states).with_context(|| format!("{} cannot be made", states.display()))?;
        Ok(Run { folder, log, metrics, later: None })
    }

    /// A folder of [`Run::create`], with its last state that can be read. What `metrics.jsonl` tells of later steps is
    /// taken out as soon as more is told: they come again.
    ///
    /// # Errors
    /// If it is none, or has no state.
    pub fn reopen(folder: &Path) -> Result<(Self, State)> {
        let append = |name: &str| {
            let path = folder.join(name);
            let file = File::options().append(true).open(&path);
            file.with_context(|| format!("{} cannot be written", path.display()))
        };
        let mut log = append("log.txt")?;
        lock(&log, folder)?;
        sweep(folder)?;
        sweep(&folder.join(STATES))?;
        for path in listed(&folder.join(STATES))?.iter().rev() {
            match State::open(path) {
                Ok(state) => {
                    let metrics = append("metrics.jsonl")?;
                    let later = Some(state.standing.clone());
                    return Ok((Run { folder: folder.to_owned(), log, metrics, later }, state));
                }
                Err(error) => {
                    writeln!(log, "left aside: {error:#}").ok();
                    let aside = path.with_extension("unreadable");
                    fs::rename(path, &aside).with_context(|| format!("{} cannot be renamed", path.display()))?;
                }
            }
        }
        bail!("{} holds no state to go on from: its training ended before its first step; begin anew", folder.display())
    }

    /// What a run that goes on was set up with.
    ///
    /// # Errors
    /// If the folder is no run's.
    pub fn setup(folder: &Path) -> Result<Setup> {
        let path = folder.join(SETUP);
        let is_none = || format!("{} is no run's folder: {SETUP} cannot be read", folder.display());
        let text = fs::read_to_string(&path).with_context(is_none)?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub fn write_setup(&self, setup: &Setup) -> Result<()> {
        self.write(SETUP, &toml::to_string(setup)?)
    }

    /// Another state; of those before, the last ones stay.
    pub fn save_state(&self, state: &State) -> Result<()> {
        let states = self.folder.join(STATES);
        let Standing { epoch, step, .. } = state.standing;
        let path = states.join(format!("epoch-{epoch:06}-step-{step:08}.safetensors"));
        // A training that goes on from a state comes by there again.
        if path.exists() {
            return Ok(());
        }
        state.save(&path)?;
        let listed = listed(&states)?;
        for old in &listed[..listed.len().saturating_sub(KEPT)] {
            fs::remove_file(old).with_context(|| format!("{} cannot be removed", old.display()))?;
        }
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of text.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// A line of `log.txt`.
    pub fn log(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").with_context(|| format!("{}/log.txt cannot be written", self.folder.display()))
    }

    /// A line of `metrics.jsonl`.
    pub fn record(&mut self, metrics: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(metrics)?;
        if let Some(standing) = self.later.take() {
            let path = self.folder.join("metrics.jsonl");
            forget_later(&path, &standing)?;
            let file = File::options().append(true).open(&path);
            self.metrics = file.with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let written = writeln!(self.metrics, "{line}");
        written.with_context(|| format!("{}/metrics.jsonl cannot be written", self.folder.display()))
    }

    /// A checkpoint in place of the one of this name; until the new one is whole, the old one stays.
    pub fn save(&self, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        Ok(checkpoint.save(self.folder.join(name))?)
    }
}

/// Two trainings that write into one folder would destroy both.
fn lock(log: &File, folder: &Path) -> Result<()> {
    log.try_lock().map_err(|_| anyhow!("a training is writing into {}", folder.display()))
}

/// Removes what a training that was killed left half written.
fn sweep(folder: &Path) -> Result<()> {
    let listed = || format!("{} cannot be listed", folder.display());
    for entry in fs::read_dir(folder).with_context(listed)? {
        let path = entry.with_context(listed)?.path();
        if path.extension().is_some_and(|extension| extension == "partial") {
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// States in order of their steps.
fn listed(states: &Path) -> Result<Vec<PathBuf>> {
    let listed = || format!("{} cannot be listed", states.display());
    let entries = fs::read_dir(states).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).with_context(listed)?;
    let paths = entries.into_iter().map(|entry| entry.path());
    // One that was being written when the run was killed has another name.
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|found| found == "safetensors")).collect();
    paths.sort();
    Ok(paths)
}

/// Keeps the lines up to a standing. The last one may be half a line.
fn forget_later(metrics: &Path, standing: &Standing) -> Result<()> {
    let text = fs::read_to_string(metrics).with_context(|| format!("{} cannot be read", metrics.display()))?;
    let is_earlier = |line: &&str| {
        let Ok(record) = serde_json::from_str::<Value>(line) else { return false };
        let number = |key: &str| record[key].as_u64().map(|number| number as usize);
        let epoch = number("epoch").unwrap_or(usize::MAX);
        epoch < standing.epoch || (epoch == standing.epoch && number("step").is_some_and(|step| step <= standing.step))
    };
    let kept: String = text.lines().filter(is_earlier).flat_map(|line| [line, "\n"]).collect();
    write_atomically(metrics, kept.as_bytes()).with_context(|| format!("{} cannot be written", metrics.display()))
}

fn free(runs: &Path, recipe: &str) -> Result<PathBuf> {
    fs::create_dir_all(runs).with_context(|| format!("{} cannot be made", runs.display()))?;
    let name = Path::new(recipe).file_stem().unwrap_or_default().to_string_lossy();
    for number in 1.. {
        let folder = runs.join(format!("{name}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be made", folder.display())),
        }
    }
    bail!("every number is taken in {}", runs.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered() {
        let runs = tempfile::tempdir().unwrap();
        let names = [0, 1].map(|_| free(runs.path(), "mine/cats.toml").unwrap());
        assert_eq!(names, ["cats-1", "cats-2"].map(|name| runs.path().join(name)));
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new");
        let mut run = Run::create(Some(output.clone()), "finetune").unwrap();
        run.log("one").unwrap();
        let error = Run::create(Some(output.clone()), "finetune").err().unwrap();
        assert!(error.to_string().contains("--output"), "{error}");
        assert_eq!(fs::read_to_string(output.join("log.txt")).unwrap(), "one\n");
    }
}
