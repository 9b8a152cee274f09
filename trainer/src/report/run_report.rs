//! The report of one or more training runs.

use super::content::Report;
use super::evaluation_report::{EvaluationReport, EvaluationSource};
use super::history::RunHistory;
use super::page;
use crate::data::{Dataset, LoaderThreads};
use crate::recipe::Recipe;
use crate::training::{BEST, RunFolder, RunSetup};
use anyhow::{Context, Result, ensure};
use model::checkpoint::{Checkpoint, write_atomically};
use model::engine::{Device, EngineOptions};
use std::fs;
use std::path::{Path, PathBuf};

/// File name of the report in the folder of a run.
pub const REPORT: &str = "report.html";

/// How the best checkpoint of a run is evaluated.
pub struct RunReportOptions {
    pub device: Device,
    pub options: EngineOptions,
    pub threads: LoaderThreads,
    /// Folder of the photos; by default that of the run.
    pub data: Option<PathBuf>,
    /// Whether the report contains photos.
    pub with_photos: bool,
}

/// Writes the report of a run: its history, and an evaluation of its best checkpoint on the validation photos. If the
/// evaluation is not possible, the report says why.
///
/// # Errors
/// Returns an error if the folder is not a run folder, or if the report cannot be written.
pub fn write_run_report(
    folder: &Path,
    output: &Path,
    options: RunReportOptions,
    should_stop: impl Fn() -> bool,
) -> Result<()> {
    let run = RunHistory::read(folder)?;
    let (evaluation, notes) = match evaluate_run(folder, options, should_stop) {
        Ok((evaluation, notes)) => (Some(evaluation), notes),
        Err(error) => (None, vec![format!("The best checkpoint was not evaluated: {error:#}.")]),
    };
    write(&Report { title: run.name.clone(), runs: vec![run], evaluation, notes }, output)
}

/// Writes a report that compares the histories of several runs.
///
/// # Errors
/// Returns an error if one of the folders is not a run folder, or if the report cannot be written.
pub fn write_comparison(folders: &[PathBuf], output: &Path) -> Result<()> {
    let runs: Vec<_> = folders.iter().map(|folder| RunHistory::read(folder)).collect::<Result<_>>()?;
    let names: Vec<_> = runs.iter().map(|run| run.name.as_str()).collect();
    write(&Report { title: names.join(", "), runs, evaluation: None, notes: Vec::new() }, output)
}

fn write(report: &Report, output: &Path) -> Result<()> {
    write_atomically(output, page::render(report).as_bytes())
        .with_context(|| format!("cannot write {}", output.display()))
}

/// Evaluates the best checkpoint of a run on its validation photos. Also returns notes for the report.
fn evaluate_run(
    folder: &Path,
    options: RunReportOptions,
    should_stop: impl Fn() -> bool,
) -> Result<(EvaluationReport, Vec<String>)> {
    let best = folder.join(BEST);
    ensure!(
        fs::exists(&best).unwrap_or(false),
        "{} does not exist; it is written after the first epoch",
        best.display()
    );
    let checkpoint = Checkpoint::from_path(&best)?;
    let classes = &checkpoint.metadata().classes;
    let RunSetup { data: recorded_data, val_split, photos, .. } = RunFolder::setup(folder)?;
    let recipe = Recipe::resolve(&folder.join("recipe.toml").display().to_string(), &[])?;
    let data = options.data.unwrap_or(recorded_data);
    let dataset = Dataset::open(&data, val_split, recipe.seed, classes)?;
    ensure!(dataset.classes == *classes, "classes of {} differ from those of the run", data.display());
    let mut notes = Vec::new();
    if dataset.fingerprint(&data) != photos {
        notes.push(format!("The photos in {} differ from those that the run was trained on.", data.display()));
    }
    let split = val_split.map_or_else(String::new, |split| format!(" --val-split {split} --seed {}", recipe.seed));
    let source = EvaluationSource {
        checkpoint_name: BEST.to_owned(),
        samples: dataset.val,
        command: format!("trainer evaluate --checkpoint {} --data {}{split}", best.display(), data.display()),
        data: data.display().to_string(),
        device: options.device,
        options: options.options,
        batch_size: recipe.batch_size,
        threads: options.threads,
    };
    Ok((EvaluationReport::compute(&checkpoint, source, options.with_photos, should_stop)?, notes))
}
