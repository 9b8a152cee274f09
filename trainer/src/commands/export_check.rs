//! The check of an exported file with its Python runtime, before it replaces an existing one.

use crate::console;
use crate::data::{DataLoader, evaluation_samples, loader_threads};
use crate::export::{ExportComparison, Format, PythonRuntime};
use anyhow::{Result, bail, ensure};
use clap::Args;
use model::checkpoint::Checkpoint;
use model::engine::{Device, Engine, EngineOptions};
use pollster::block_on;
use std::path::{Path, PathBuf};

/// Number of photos that are classified at once.
const BATCH_SIZE: usize = 16;

/// Arguments that select the check.
#[derive(Args)]
pub struct CheckArgs {
    /// Labelled photos, as for `trainer evaluate --data`, on which to compare the output in its Python runtime with the
    /// checkpoint in this program
    #[arg(long, value_name = "PHOTOS")]
    check: Option<PathBuf>,
    /// Write nothing and fail if top-1 drops by more than this, in percentage points, or if the runtime is not installed
    #[arg(long, value_name = "POINTS", requires = "check", value_parser = points)]
    max_drop: Option<f64>,
    /// Python with the runtime of the format, such as onnxruntime
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

fn points(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
        _ => bail!("expected a number from 0 to 100, such as 0.5"),
    }
}

/// A check that can run, because its runtime is installed.
pub struct ExportCheck<'a> {
    runtime: PythonRuntime,
    photos: &'a Path,
    max_drop: Option<f64>,
}

impl CheckArgs {
    /// Returns the check, if one was requested and its runtime is installed.
    ///
    /// # Errors
    /// Returns an error if the runtime is missing although the result matters.
    pub fn prepare(&self, format: Format) -> Result<Option<ExportCheck<'_>>> {
        let Some(photos) = &self.check else { return Ok(None) };
        ensure!(format != Format::Hub, "--check does not apply to hub; check --format onnx instead");
        match PythonRuntime::find(&self.python, format) {
            Ok(runtime) => Ok(Some(ExportCheck { runtime, photos, max_drop: self.max_drop })),
            Err(error) if self.max_drop.is_some() => Err(error),
            Err(error) => {
                console::note(format_args!("the output is not checked: {error:#}"));
                Ok(None)
            }
        }
    }
}

impl ExportCheck<'_> {
    /// Compares an exported file with its checkpoint, and prints the differences. If `softmax`, the file returns
    /// probabilities.
    ///
    /// # Errors
    /// Returns an error if the file cannot be run, or if its accuracy is too low.
    pub fn run(&self, checkpoint: &Checkpoint, exported: &Path, softmax: bool) -> Result<()> {
        let metadata = checkpoint.metadata();
        let samples = evaluation_samples(self.photos, &metadata.classes)?.into();
        let loader = DataLoader::for_evaluation(samples, &metadata.preprocessing, BATCH_SIZE, loader_threads(None)?);
        let engine = block_on(Engine::prepare_from(checkpoint, Device::Cpu, EngineOptions::default()))?;
        let mut export = self.runtime.start(exported, metadata)?;
        let (comparison, skipped) = ExportComparison::compute(&engine, &mut export, loader, metadata, softmax)?;
        super::validation_photos::report_skipped(&skipped);
        console::status(&comparison);
        if let Some(max_drop) = self.max_drop {
            let drop = comparison.drop();
            ensure!(
                drop <= max_drop,
                "top-1 drops by {drop:.2} percentage points, more than --max-drop {max_drop}; nothing was written"
            );
        }
        Ok(())
    }
}
