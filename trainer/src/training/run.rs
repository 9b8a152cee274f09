//! A run's folder: all that is left of a training, for somebody who was not there.

use anyhow::{Context, Result, bail, ensure};
use model::checkpoint::Checkpoint;
use serde::Serialize;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where runs go that nobody names a folder for.
const RUNS: &str = "runs";

/// A folder with `recipe.toml`, `classes.txt`, `labels.txt`, `log.txt`, `metrics.jsonl`, and the checkpoints
/// `last.safetensors` and `best.safetensors`.
pub struct Run {
    folder: PathBuf,
    log: File,
    metrics: File,
}

impl Run {
    /// Makes the folder, by default `runs/RECIPE-1` or whatever number is free.
    ///
    /// # Errors
    /// If there is something in it already.
    pub fn create(folder: Option<PathBuf>, recipe: &str) -> Result<Self> {
        let folder = match folder {
            Some(folder) => taken(&folder)?,
            None => free(Path::new(RUNS), recipe)?,
        };
        let create = |name: &str| {
            let path = folder.join(name);
            File::create_new(&path).with_context(|| format!("{} cannot be written", path.display()))
        };
        let (log, metrics) = (create("log.txt")?, create("metrics.jsonl")?);
        Ok(Run { folder, log, metrics })
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
        let written = writeln!(self.metrics, "{line}");
        written.with_context(|| format!("{}/metrics.jsonl cannot be written", self.folder.display()))
    }

    /// A checkpoint in place of the one of this name; until the new one is whole, the old one stays.
    pub fn save(&self, name: &str, checkpoint: &Checkpoint) -> Result<()> {
        Ok(checkpoint.save(self.folder.join(name))?)
    }
}

fn taken(folder: &Path) -> Result<PathBuf> {
    let cannot = || format!("{} cannot be made", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    let is_empty = folder.read_dir().with_context(cannot)?.next().is_none();
    ensure!(is_empty, "{} is not empty: name another folder with --output", folder.display());
    Ok(folder.to_owned())
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
