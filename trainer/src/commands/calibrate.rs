//! `trainer calibrate`: probabilities that match the accuracy of predictions, and a threshold to reject uncertain ones.

use super::arguments::DeviceArgs;
use super::dtypes;
use super::validation_photos::{ValidationPhotos, report_skipped};
use crate::console;
use crate::evaluation::{
    Calibration, FittedTemperature, LabelledLogits, PhotoPrediction, Rejection, classify_samples, fit_temperature,
    rejection_threshold,
};
use crate::weights_file::{check_output, open_checkpoint, save};
use anyhow::{Context, Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use model::checkpoint::{Checkpoint, Metadata};
use model::engine::Engine;
use pollster::block_on;
use serde::Serialize;
use std::path::PathBuf;

/// Minimum number of photos.
const MIN_PHOTOS: usize = 10;
/// Number of photos below which a note says that the result is imprecise.
const FEW_PHOTOS: usize = 200;

/// Calibrate the probabilities of a checkpoint on validation photos
///
/// Determines the temperature T, from 0.05 to 20, for which the probabilities softmax(logits / T) have the smallest mean
/// cross-entropy, and the rejection threshold: the largest probability that keeps 95 % of the correct predictions. All programs
/// mark predictions whose best class is less likely. Both numbers are stored in a copy of the checkpoint. Weights, and the
/// order of classes in predictions, remain the same.
///
/// Use photos on which the checkpoint was not trained. The logits of all photos are kept in memory: 200 MB for 50,000 photos
/// of 1000 classes. The input is not modified; an existing file OUT is replaced.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Calibrate {
    /// Checkpoint to calibrate: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: CheckpointSource,
    /// Checkpoint to write: .safetensors
    #[arg(long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    photos: ValidationPhotos,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Print one line of JSON, with all rates as fractions
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer calibrate runs/finetune-1/best.safetensors --data photos --output calibrated.safetensors
  trainer calibrate resnet18-imagenette --data imagenette/val --output calibrated.safetensors --json | jq .temperature";

/// The output of `--json`.
#[derive(Serialize)]
struct CalibrationReport {
    /// Number of photos, without those that could not be decoded.
    photos: usize,
    skipped: usize,
    temperature: f32,
    rejection_threshold: f32,
    before: ProbabilityMetrics,
    after: ProbabilityMetrics,
    /// Fraction of photos whose most likely class is correct. It does not depend on the temperature.
    top1: f64,
    /// Fraction of photos below the threshold.
    rejected: f64,
    /// Fraction of the other photos whose most likely class is correct.
    precision: f64,
}

/// Metrics that depend on the temperature.
#[derive(Serialize)]
struct ProbabilityMetrics {
    /// Mean cross-entropy.
    loss: f64,
    expected_calibration_error: f64,
}

/// Temperature and threshold for some photos, with the predictions that follow.
struct Fit {
    temperature: f32,
    is_limit: bool,
    rejection_threshold: f32,
    predictions: Vec<PhotoPrediction>,
}

impl Calibrate {
    pub fn run(self) -> Result<()> {
        check_output(&self.checkpoint, &self.output)?;
        let checkpoint = open_checkpoint(&self.checkpoint)?;
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let (logits, skipped) = self.logits(&checkpoint)?;
        let metadata = checkpoint.metadata();
        let fit = Fit::new(metadata, &logits)?;
        fit.report_problems(metadata);
        let report = CalibrationReport::new(&logits.predictions(metadata), &fit, skipped);
        let metadata = Metadata {
            temperature: Some(fit.temperature),
            rejection_threshold: Some(fit.rejection_threshold),
            ..metadata.clone()
        };
        let calibrated = checkpoint.with_metadata(metadata)?;
        save(&calibrated, &self.checkpoint, &self.output)?;
        if self.json {
            return console::print_result(&serde_json::to_string(&report)?);
        }
        console::print_result(&report.text())?;
        console::print_result(&format!("{}: {}", self.output.display(), dtypes::summary(&calibrated)))
    }

    /// Returns the logits of all photos, and the number of files that could not be decoded.
    ///
    /// # Errors
    /// Returns an error if the photos cannot be listed, if there are too few, or if the device fails.
    fn logits(&self, checkpoint: &Checkpoint) -> Result<(LabelledLogits, usize)> {
        let metadata = checkpoint.metadata();
        let classes = metadata.architecture.classes;
        ensure!(classes > 1, "{} has one class, whose probability is always 1", self.checkpoint);
        let loader = self.photos.load(metadata)?;
        let engine = block_on(Engine::prepare_from(checkpoint, self.device_args.device, self.device_args.into()))?;
        let mut logits = LabelledLogits::new(classes);
        let push = |sample, row: &[f32], class| logits.push(sample, row, class);
        let skipped = classify_samples(&engine, loader, || false, push)?;
        report_skipped(&skipped);
        ensure!(
            logits.len() >= MIN_PHOTOS,
            "calibration requires at least {MIN_PHOTOS} photos, but only {} could be decoded; choose more with --data",
            logits.len()
        );
        Ok((logits, skipped.len()))
    }
}

impl Fit {
    /// Fits temperature and threshold to the logits of the model with this metadata.
    ///
    /// # Errors
    /// Returns an error if no prediction is correct.
    fn new(metadata: &Metadata, logits: &LabelledLogits) -> Result<Self> {
        let FittedTemperature { temperature, is_limit } = fit_temperature(logits);
        let predictions = logits.predictions(&Metadata { temperature: Some(temperature), ..metadata.clone() });
        let rejection_threshold = rejection_threshold(&predictions).with_context(|| {
            format!(
                "none of the {} photos is classified correctly; check that the folders are named after the classes of the \
                 checkpoint",
                predictions.len()
            )
        })?;
        Ok(Fit { temperature, is_limit, rejection_threshold, predictions })
    }

    /// Prints notes about photos that do not determine the result well.
    fn report_problems(&self, metadata: &Metadata) {
        let Fit { temperature, predictions, .. } = self;
        let first = predictions[0].class;
        if predictions.iter().all(|prediction| prediction.class == first) {
            let class = &metadata.classes[first];
            console::note(format_args!(
                "all photos are of the class {class:?}; predictions of others are not calibrated"
            ));
        }
        if predictions.len() < FEW_PHOTOS {
            let count = predictions.len();
            console::note(format_args!("temperature and threshold are imprecise with only {count} photos"));
        }
        if self.rejection_threshold >= 1.0 {
            console::note(
                "the rejection threshold is 100 %, so that all programs will mark less confident predictions; use more photos",
            );
        }
        if self.is_limit {
            let reason = match predictions.iter().all(PhotoPrediction::is_correct) {
                true => "all photos are classified correctly, so the loss has no minimum",
                false => "the loss has its minimum beyond this limit",
            };
            console::note(format_args!(
                "the temperature is limited to {temperature}: {reason}; use more photos, on which the checkpoint was not \
                 trained"
            ));
        }
    }
}

impl CalibrationReport {
    /// Creates the report from the predictions before calibration, and from those after it.
    fn new(before: &[PhotoPrediction], fit: &Fit, skipped: usize) -> Self {
        let Fit { temperature, rejection_threshold, ref predictions, .. } = *fit;
        let Rejection { rejected, precision } = Rejection::new(predictions, rejection_threshold);
        let correct = predictions.iter().filter(|prediction| prediction.is_correct()).count();
        CalibrationReport {
            photos: predictions.len(),
            skipped,
            temperature,
            rejection_threshold,
            before: ProbabilityMetrics::new(before),
            after: ProbabilityMetrics::new(predictions),
            top1: correct as f64 / predictions.len() as f64,
            rejected,
            precision,
        }
    }

    fn text(&self) -> String {
        let CalibrationReport { photos, skipped, before, after, .. } = self;
        let percent = |fraction: f64| format!("{:.1} %", 100.0 * fraction);
        let row = |name: &str, [before, after]: [String; 2]| [name.to_owned(), before, after];
        let mut table = console::table();
        table.set_header(["", "before", "after"]);
        table.add_row(row("loss", [before, after].map(|metrics| format!("{:.4}", metrics.loss))));
        let errors = [before, after].map(|metrics| percent(metrics.expected_calibration_error));
        table.add_row(row("expected calibration error", errors));
        table.add_row(row("top-1", [percent(self.top1), percent(self.top1)]));
        console::align_right(&mut table, [1, 2]);
        format!(
            "{}\n\n{photos} photos, {skipped} skipped; temperature {:.4}\nrejection threshold {}: rejects {} of the \
             photos; of the others, {} are classified correctly",
            table.trim_fmt(),
            self.temperature,
            percent(self.rejection_threshold.into()),
            percent(self.rejected),
            percent(self.precision)
        )
    }
}

impl ProbabilityMetrics {
    fn new(predictions: &[PhotoPrediction]) -> Self {
        let loss: f64 = predictions.iter().map(|prediction| prediction.loss).sum();
        ProbabilityMetrics {
            loss: loss / predictions.len() as f64,
            expected_calibration_error: Calibration::new(predictions).expected_error,
        }
    }
}
