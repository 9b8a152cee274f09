//! The folder of a training run: recipe, log, metrics, checkpoints, and the states to resume from.

use super::state::{TrainingPosition, TrainingState};
use crate::output_folder;
use anyhow::{Context, Result, anyhow, bail};
use checkpoints::CheckpointSource;
use model::checkpoint::{Checkpoint, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Folder that contains the folders of runs without `--output`.
const RUNS: &str = "runs";

/// File names of the last epoch's checkpoint, and of the best epoch's by top-1.
pub const LAST: &str = "last.safetensors";
pub const BEST: &str = "best.safetensors";

/// File names of the log, and of the metrics as JSON lines.
pub const LOG: &str = "log.txt";
pub const METRICS: &str = "metrics.jsonl";

/// File name of the teacher's logits, if images are the same in all epochs.
pub const TEACHER_LOGITS: &str = "teacher-logits.f32";

/// Folder of the states to resume from, and how many of them are kept.
const STATES: &str = "states";
const KEPT_STATES: usize = 2;
const SETUP: &str = "setup.toml";

/// Settings that are needed to resume a run, in addition to its recipe. They are stored in `setup.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunSetup {
    /// Folder of the photos or shards.
    pub data: PathBuf,
    /// Fraction of each class that is held out for validation (`--val-split`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// Fingerprint of the photos: see [`Dataset::fingerprint`](crate::data::Dataset::fingerprint).
    pub photos: String,
    /// Name of the device (`--device`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Number of GPUs (`--gpus`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<usize>,
    /// Number of replicas on the device (`--replicas`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<NonZero<usize>>,
    /// Teacher of the network (`--teacher`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<RecordedTeacher>,
    /// Unlabelled photos (`--unlabelled`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<RecordedPhotos>,
}

/// Teacher of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedTeacher {
    pub checkpoint: CheckpointSource,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// Unlabelled photos of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedPhotos {
    pub folder: PathBuf,
    /// Fingerprint: see [`UnlabelledPhotos::fingerprint`](crate::data::UnlabelledPhotos::fingerprint).
    pub photos: String,
}

/// A folder with `recipe.toml`, `setup.toml`, `classes.txt`, `labels.txt`, `log.txt`, `metrics.jsonl`, the checkpoints
/// `last.safetensors` and `best.safetensors`, and `states`. [`EventWriter`](super::tensorboard::EventWriter) writes the
/// event files in the same folder.
pub struct RunFolder {
    folder: PathBuf,
    log: File,
    metrics: File,
    /// Position that the run was resumed from, until `metrics.jsonl` has been truncated to it.
    resumed_from: Option<TrainingPosition>,
}

impl RunFolder {
    /// Creates the folder, by default `runs/RECIPE-N` with the first free number.
    ///
    /// # Errors
    /// Returns an error if the folder is not empty, or cannot be written.
    pub fn create(folder: Option<PathBuf>, recipe: &str) -> Result<Self> {
        let folder = match folder {
            Some(folder) => {
                output_folder::create_empty(&folder, "--output")?;
                folder
            }
            None => create_numbered(Path::new(RUNS), recipe)?,
        };
        let create = |name: &str| {
            let path = folder.join(name);
            File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let (log, metrics) = (create(LOG)?, create(METRICS)?);
        lock(&log, &folder)?;
        let states = folder.join(STATES);
        fs::create_dir(&states).with_context(|| format!("cannot create {}", states.display()))?;
        Ok(RunFolder { folder, log, metrics, resumed_from: None })
    }

    /// Opens an existing folder and its last readable state. Unreadable states are renamed. Records of later steps,
    /// which will be repeated, are removed from `metrics.jsonl` when the first new record is written.
    ///
    /// # Errors
    /// Returns an error if it is not a run folder, has no state, or is in use.
    pub fn reopen(folder: &Path) -> Result<(Self, TrainingState)> {
        let append = |name: &str| {
            let path = folder.join(name);
            let file = File::options().append(true).open(&path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let mut log = append(LOG)?;
        lock(&log, folder)?;
        remove_partial_files(folder)?;
        remove_partial_files(&folder.join(STATES))?;
        for path in list_states(&folder.join(STATES))?.iter().rev() {
            match TrainingState::open(path) {
                Ok(state) => {
                    let metrics = append(METRICS)?;
                    let resumed_from = Some(state.position.clone());
                    return Ok((RunFolder { folder: folder.to_owned(), log, metrics, resumed_from }, state));
                }
                Err(error) => {
                    writeln!(log, "ignored unreadable state: {error:#}").ok();
                    let renamed = path.with_extension("unreadable");
                    fs::rename(path, &renamed).with_context(|| format!("cannot rename {}", path.display()))?;
                }
            }
        }
        bail!("{} has no state to resume from; start a new run", folder.display())
    }

    /// Returns whether this is the folder of a run that can be resumed.
    pub fn has_state(folder: &Path) -> bool {
        folder.join(SETUP).exists() && list_states(&folder.join(STATES)).is_ok_and(|states| !states.is_empty())
    }

    /// Reads the setup of an existing run.
    ///
    /// # Errors
    /// Returns an error if the folder is not a run folder.
    pub fn setup(folder: &Path) -> Result<RunSetup> {
        let path = folder.join(SETUP);
        let context = || format!("{} is not a run folder: cannot read {SETUP}", folder.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub fn write_setup(&self, setup: &RunSetup) -> Result<()> {
        self.write(SETUP, &toml::to_string(setup)?)
    }

    /// Saves a state, and removes all but the last [`KEPT_STATES`] ones.
    pub fn save_state(&self, state: &TrainingState) -> Result<()> {
        let states = self.folder.join(STATES);
        let TrainingPosition { epoch, step, .. } = state.position;
        let path = states.join(format!("epoch-{epoch:06}-step-{step:08}.safetensors"));
        // A resumed run reaches the position of its state again.
        if path.exists() {
            return Ok(());
        }
        state.save(&path)?;
        let paths = list_states(&states)?;
        for old in &paths[..paths.len().saturating_sub(KEPT_STATES)] {
            fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes a text file.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Appends a line to `log.txt`.
    pub fn log(&mut self, line: &str) -> Result<()> {
        writeln!(self.log, "{line}").with_context(|| format!("cannot write {}/{LOG}", self.folder.display()))
    }

    /// Appends a record to `metrics.jsonl`.
    pub fn record(&mut self, record: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(record)?;
        if let Some(position) = self.resumed_from.take() {
            let path = self.folder.join(METRICS);
            truncate_metrics(&path, &position)?;
            let file = File::options().append(true).open(&path);
            self.metrics = file.with_context(|| format!("cannot write {}", path.display()))?;
        }
        let written = writeln!(self.metrics, "{line}");
        written.with_context(|| format!("cannot write {}/{METRICS}", self.folder.display()))
    }

    /// Saves a checkpoint, atomically replacing the previous one of this name.
    pub fn save(&self, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        Ok(checkpoint.save(self.folder.join(name))?)
    }
}

/// Locks the folder: two runs in one folder would overwrite each other's files.
fn lock(log: &File, folder: &Path) -> Result<()> {
    log.try_lock().map_err(|_| anyhow!("another training run is writing to {}", folder.display()))
}

/// Removes files that a killed run had not finished writing.
fn remove_partial_files(folder: &Path) -> Result<()> {
    let context = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "partial") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns the paths of the states, in order of their steps.
fn list_states(states: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", states.display());
    let entries = fs::read_dir(states).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).with_context(context)?;
    let paths = entries.into_iter().map(|entry| entry.path());
    // A state that was being written when the run was killed has another extension.
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors")).collect();
    paths.sort();
    Ok(paths)
}

/// Removes the records after a position. The last line may be incomplete.
fn truncate_metrics(metrics: &Path, position: &TrainingPosition) -> Result<()> {
    let text = fs::read_to_string(metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
    let is_earlier = |line: &&str| {
        let Ok(record) = serde_json::from_str::<Value>(line) else { return false };
        let number = |key: &str| record[key].as_u64().map(|number| number as usize);
        number("epoch").is_none_or(|epoch| position.includes(epoch, number("step")))
    };
    let text: String = text.lines().filter(is_earlier).flat_map(|line| [line, "\n"]).collect();
    write_atomically(metrics, text.as_bytes()).with_context(|| format!("cannot write {}", metrics.display()))
}

/// Creates `RUNS/RECIPE-N` with the first free number.
fn create_numbered(runs: &Path, recipe: &str) -> Result<PathBuf> {
    fs::create_dir_all(runs).with_context(|| format!("cannot create {}", runs.display()))?;
    let name = Path::new(recipe).file_stem().unwrap_or_default().to_string_lossy();
    for number in 1.. {
        let folder = runs.join(format!("{name}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", folder.display())),
        }
    }
    bail!("no free number in {}", runs.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_runs_of_a_recipe() {
        let runs = tempfile::tempdir().unwrap();
        let names = [0, 1].map(|_| create_numbered(runs.path(), "mine/cats.toml").unwrap());
        assert_eq!(names, ["cats-1", "cats-2"].map(|name| runs.path().join(name)));
    }

    #[test]
    fn rejects_a_folder_that_is_not_empty() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new");
        let mut run = RunFolder::create(Some(output.clone()), "finetune").unwrap();
        run.log("one").unwrap();
        let error = RunFolder::create(Some(output.clone()), "finetune").err().unwrap();
        assert!(error.to_string().contains("--output"), "{error}");
        assert_eq!(fs::read_to_string(output.join("log.txt")).unwrap(), "one\n");
    }
}
