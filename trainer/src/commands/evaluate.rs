//! `trainer evaluate`: metrics and reports of a checkpoint on labelled photos.

use super::arguments::DeviceArgs;
use super::validation_photos::{ValidationPhotos, report_skipped};
use crate::command_line;
use crate::console;
use crate::data::{SkippedSample, loader_threads};
use crate::evaluation::{ClassFigures, Evaluation};
use crate::output_folder;
use crate::report::{EvaluationReport, EvaluationSource, REPORT, write_evaluation};
use crate::weights_file::open_checkpoint;
use anyhow::Result;
use checkpoints::CheckpointSource;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Evaluate a checkpoint on labelled photos: top-1, top-5, loss, and reports
///
/// Photos are preprocessed as by `trainer predict`. Unreadable files are reported and skipped. If the checkpoint has a
/// temperature (see `trainer calibrate`), the loss is that of the calibrated probabilities.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    /// Checkpoint to evaluate: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    #[command(flatten)]
    photos: ValidationPhotos,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Print one line of JSON, with top-1 and top-5 as fractions, figures of each class, and the confusion matrix
    #[arg(long)]
    json: bool,
    /// Folder, new or empty, for report.html, confusion.csv, classes.csv, predictions.csv, and the confusion matrix as PNG and
    /// SVG
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Leave photos out of the report
    #[arg(long, requires = "report")]
    no_photos: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer evaluate --checkpoint runs/finetune-1/best.safetensors --data photos
  trainer evaluate --checkpoint resnet18-imagenette --data imagenette/val --json | jq .top1
  trainer evaluate --checkpoint resnet18-imagenette --data imagenette/val --report imagenette-report";

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let checkpoint = open_checkpoint(&self.checkpoint)?;
        let samples = self.photos.samples(&checkpoint.metadata().classes)?;
        if let Some(folder) = &self.report {
            output_folder::create_empty(folder, "--report")?;
        }
        let source = EvaluationSource {
            checkpoint_name: self.checkpoint.name(),
            samples,
            data: self.photos.data.display().to_string(),
            command: command_line::of_this_process(),
            device: self.device_args.device,
            options: self.device_args.into(),
            batch_size: self.photos.batch_size.get(),
            threads: loader_threads(None)?,
        };
        let with_photos = self.report.is_some() && !self.no_photos;
        // There is nothing to save on Ctrl-C, so its default behaviour is kept.
        let report = EvaluationReport::compute(&checkpoint, source, with_photos, || false)?;
        report_skipped(&report.details.skipped);
        let text = if self.json {
            serde_json::to_string(&JsonEvaluation::new(&report))?
        } else {
            let evaluation = &report.details.metrics;
            format!("{evaluation}; {} photos, {} skipped", evaluation.photos, evaluation.skipped)
        };
        if let Some(folder) = &self.report {
            write_evaluation(report, folder)?;
            console::wrote(&folder.join(REPORT));
        }
        console::print_result(&text)
    }
}

/// The document that `--json` prints.
#[derive(Serialize)]
struct JsonEvaluation<'a> {
    #[serde(flatten)]
    metrics: &'a Evaluation,
    /// The files that could not be decoded.
    skipped_files: &'a [SkippedSample],
    expected_calibration_error: f64,
    classes: Vec<JsonClass<'a>>,
    /// Number of photos by actual and predicted class.
    confusion: Vec<&'a [u32]>,
}

#[derive(Serialize)]
struct JsonClass<'a> {
    class: &'a str,
    label: &'a str,
    #[serde(flatten)]
    figures: ClassFigures,
}

impl<'a> JsonEvaluation<'a> {
    fn new(report: &'a EvaluationReport) -> Self {
        let confusion = &report.details.confusion;
        let names = report.classes.iter().zip(&report.labels);
        let classes = names.zip(confusion.class_figures());
        JsonEvaluation {
            metrics: &report.details.metrics,
            skipped_files: &report.details.skipped,
            expected_calibration_error: report.calibration.expected_error,
            classes: classes.map(|((class, label), figures)| JsonClass { class, label, figures }).collect(),
            confusion: confusion.rows().collect(),
        }
    }
}
