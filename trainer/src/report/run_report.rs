//! The report of one or more training runs.

use super::content::Report;
use super::evaluation_report::{EvaluationReport, EvaluationSource};
use super::history::RunHistory;
use super::page;
use crate::command_line::command_line;
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

/// Options for evaluating the best checkpoint of a run.
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
/// evaluation is not possible, the report says why. Returns the notes of the report: sentences about what is missing.
///
/// # Errors
/// Returns an error if the folder is not a run folder, or if the report cannot be written.
pub fn write_run_report(
    folder: &Path,
    output: &Path,
    options: RunReportOptions,
    should_stop: impl Fn() -> bool,
) -> Result<Vec<String>> {
    let run = RunHistory::read(folder)?;
    let (evaluation, notes) = match evaluate_run(folder, options, should_stop) {
        Ok((evaluation, notes)) => (Some(evaluation), notes),
        Err(error) => (None, vec![format!("The best checkpoint was not evaluated: {error:#}.")]),
    };
    write(&Report { title: run.name.clone(), runs: vec![run], evaluation, notes: notes.clone() }, output)?;
    Ok(notes)
}

/// Writes a report that compares the histories of several runs.
///
/// # Errors
/// Returns an error if one of the folders is not a run folder, or if the report cannot be written.
pub fn write_comparison(folders: &[PathBuf], output: &Path) -> Result<()> {
    let runs: Vec<_> = folders.iter().map(|folder| RunHistory::read(folder)).collect::<Result<_>>()?;
    let title = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut notes = Vec::new();
    if runs.iter().any(|run| run.photos != runs[0].photos) {
        notes.push("The runs were trained on different photos, so their metrics cannot be compared.".to_owned());
    }
    write(&Report { title, runs, evaluation: None, notes }, output)
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
    let dataset = Dataset::open(&data, val_split, recipe.seed, classes)
        .context("cannot open the photos of the run; give their folder with `trainer report --data`")?;
    ensure!(
        dataset.classes == *classes,
        "classes of {} differ from those of the run; give the folder of its photos with `trainer report --data`",
        data.display()
    );
    let mut notes = Vec::new();
    if dataset.fingerprint(&data) != photos {
        notes.push(format!("The photos in {} differ from those that the run was trained on.", data.display()));
    }
    let (best_text, data_text) = (best.display().to_string(), data.display().to_string());
    let mut command: Vec<_> =
        ["evaluate", "--checkpoint", &best_text, "--data", &data_text].map(str::to_owned).to_vec();
    command.extend(["--batch-size".to_owned(), recipe.batch_size.to_string()]);
    if let Some(split) = val_split {
        command.extend(["--val-split".to_owned(), split.to_string(), "--seed".to_owned(), recipe.seed.to_string()]);
    }
    if options.device != Device::default() {
        command.extend(["--device".to_owned(), options.device.to_string()]);
    }
    let source = EvaluationSource {
        checkpoint_name: BEST.to_owned(),
        samples: dataset.val,
        command: command_line(command),
        data: data_text,
        device: options.device,
        options: options.options,
        batch_size: recipe.batch_size,
        threads: options.threads,
    };
    Ok((EvaluationReport::compute(&checkpoint, source, options.with_photos, should_stop)?, notes))
}
