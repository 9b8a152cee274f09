//! `trainer evaluate`: metrics and reports of a checkpoint on labelled photos.

use super::arguments::{DeviceArgs, command_line, fraction};
use crate::console;
use crate::data::{Dataset, evaluation_samples, loader_threads};
use crate::evaluation::{ClassFigures, Evaluation};
use crate::output_folder;
use crate::report::{EvaluationReport, EvaluationSource, REPORT, write_evaluation};
use crate::weights_file::open_checkpoint;
use anyhow::{Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use serde::Serialize;
use std::num::NonZero;
use std::path::PathBuf;

/// Evaluate a checkpoint on labelled photos: top-1, top-5, loss, and reports
///
/// Photos are preprocessed as by `trainer predict`. Unreadable files are reported and skipped.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Evaluate {
    /// Checkpoint to evaluate: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    /// Folder with one folder per class, named after the checkpoint's classes; or a folder that contains these in val; or a
    /// folder of WebDataset shards val-*.tar
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Evaluate on the photos that a training run with this --val-split and --seed held out
    #[arg(long, value_name = "FRACTION", value_parser = fraction)]
    val_split: Option<f64>,
    /// Random seed of the split
    #[arg(long, value_name = "N", default_value = "0", requires = "val_split")]
    seed: u64,
    /// Batch size
    #[arg(long, value_name = "N", default_value = "16")]
    batch_size: NonZero<usize>,
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
        let classes = &checkpoint.metadata().classes;
        let samples = match self.val_split {
            None => evaluation_samples(&self.data, classes)?.into(),
            split => {
                let dataset = Dataset::open(&self.data, split, self.seed, classes)?;
                ensure!(
                    dataset.classes == *classes,
                    "{}: classes differ from those of the checkpoint",
                    self.data.display()
                );
                dataset.val
            }
        };
        if let Some(folder) = &self.report {
            output_folder::create_empty(folder)?;
        }
        let source = EvaluationSource {
            checkpoint_name: self.checkpoint.name(),
            samples,
            data: self.data.display().to_string(),
            command: command_line(),
            device: self.device_args.device,
            options: self.device_args.into(),
            batch_size: self.batch_size.get(),
            threads: loader_threads(None)?,
        };
        let with_photos = self.report.is_some() && !self.no_photos;
        // There is nothing to save on Ctrl-C, so its default behaviour is kept.
        let report = EvaluationReport::compute(&checkpoint, source, with_photos, || false)?;
        for skipped in &report.details.skipped {
            console::note(format_args!("skipped {}: {}", skipped.location, skipped.reason));
        }
        let text = if self.json {
            serde_json::to_string(&JsonEvaluation::new(&report))?
        } else {
            let evaluation = &report.details.metrics;
            format!("{evaluation}; {} photos, {} skipped", evaluation.photos, evaluation.skipped)
        };
        if let Some(folder) = &self.report {
            write_evaluation(report, folder)?;
            console::note(format_args!("wrote {}", folder.join(REPORT).display()));
        }
        console::print_result(&text)
    }
}

/// The document that `--json` prints.
#[derive(Serialize)]
struct JsonEvaluation<'a> {
    #[serde(flatten)]
    metrics: &'a Evaluation,
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
            expected_calibration_error: report.calibration.expected_error,
            classes: classes.map(|((class, label), figures)| JsonClass { class, label, figures }).collect(),
            confusion: confusion.rows().collect(),
        }
    }
}
