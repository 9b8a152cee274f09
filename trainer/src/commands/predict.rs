//! `trainer predict`: classification of photos, with output as tables, JSON lines or CSV.

use super::arguments::DeviceArgs;
use crate::console;
use crate::photos::{self, EXTENSIONS, LIMITS};
use crate::weights_file::open_checkpoint;
use anyhow::{Context, Result, bail, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use model::classifier::{Classifier, PreparedPhoto};
use model::engine::OnFallback;
use model::prediction::{Failure, ModelId, PhotoOutcome, Prediction};
use serde::Serialize;
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Classify photos
///
/// Reads JPEG, PNG, WebP, GIF and BMP, whatever the extensions of the files. If a photo cannot be read, an error takes the place
/// of its classes, the others are still classified, and the exit status is 1. If the checkpoint has a rejection threshold (see
/// `trainer calibrate`), predictions below it are marked.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Predict {
    /// Photos, or folders whose photos (jpg, png, webp, gif, bmp) are all classified, in order of their names
    #[arg(required = true, value_name = "PHOTO|FOLDER")]
    photos: Vec<PathBuf>,
    /// Checkpoint, or safetensors file with torchvision's tensor names; or one of the bundled checkpoints
    /// resnet18-imagenette and resnet50_v1-imagenet
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: CheckpointSource,
    /// Architecture, if the tensors do not determine it: resnet50_v1 has its strides in the first 1x1 convolutions
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// Number of classes per photo
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Print one line of JSON per photo, in the given order
    #[arg(long)]
    json: bool,
    /// Also write a CSV file with the columns file, rank, index, label, probability, error
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  trainer predict cat.jpg --checkpoint resnet50_v1-imagenet
  trainer predict photos/ --checkpoint mine.safetensors --json > answers.jsonl
  trainer predict photos/ --checkpoint mine.safetensors --top-k 1 --csv answers.csv";

/// Line below a table, if the prediction is below the rejection threshold.
const NOT_CONFIDENT: &str =
    " The model is not confident: its best answer is below the rejection threshold of the checkpoint.\n";

/// A line of `--json`.
#[derive(Serialize)]
struct JsonLine<'a> {
    file: Cow<'a, str>,
    #[serde(flatten)]
    outcome: &'a PhotoOutcome,
}

impl Predict {
    /// Classifies all photos.
    ///
    /// # Errors
    /// Returns an error at the end if some photos could not be read or decoded.
    pub fn run(self) -> Result<()> {
        let files = files(&self.photos)?;
        let mut checkpoint = open_checkpoint(&self.checkpoint)?;
        if let Some(name) = &self.architecture {
            checkpoint = checkpoint.with_architecture(name)?;
        }
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let (device, options) = (self.device_args.device, self.device_args.into());
        let report: OnFallback = |error, device| console::note(format_args!("{error}; falling back to {device}"));
        let classifier = pollster::block_on(Classifier::new(self.model_id()?, checkpoint, device, options, report))?;
        if let Some(adapter) = classifier.adapter() {
            console::note(format_args!("running on {device}: {adapter}"));
        }
        let mut csv = self.csv.as_deref().map(CsvWriter::create).transpose()?;

        let mut failures = 0;
        for file in &files {
            let outcome = self.predict(&classifier, file)?;
            failures += usize::from(matches!(outcome, PhotoOutcome::Failure(_)));
            if let Some(csv) = &mut csv {
                csv.write(file, &outcome)?;
            }
            let text = if self.json { json(file, &outcome)? } else { table(file, &outcome) };
            console::print_result(&text)?;
        }
        if let Some(csv) = csv {
            csv.finish()?;
        }
        ensure!(failures == 0, "{failures} of {} photos could not be classified", files.len());
        Ok(())
    }

    fn model_id(&self) -> Result<ModelId> {
        let name = self.checkpoint.name();
        match &self.checkpoint {
            CheckpointSource::File(path) => {
                ModelId::from_file(&name, path).with_context(|| format!("cannot read {}", path.display()))
            }
            CheckpointSource::Bundled(bundled) => Ok(ModelId::from_bytes(&name, bundled.bytes())),
        }
    }

    /// Classifies one photo. An unreadable photo is an outcome; a failing device is an error.
    fn predict(&self, classifier: &Classifier, file: &Path) -> Result<PhotoOutcome> {
        let prepared = match photos::read(file) {
            Ok(bytes) => PreparedPhoto::from_bytes(&bytes, &LIMITS, classifier.metadata())
                .map_err(|error| Failure::new(error.code(), error)),
            Err(failure) => Err(failure),
        };
        Ok(match prepared {
            Ok(prepared) => {
                PhotoOutcome::Prediction(pollster::block_on(classifier.classify(prepared, 0.0, self.top_k as usize))?)
            }
            Err(failure) => PhotoOutcome::Failure(failure),
        })
    }
}

/// Replaces folders by their photos.
fn files(photos: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in photos {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        photos::collect(path, &mut files)?;
        if files.len() == before {
            bail!("no photos in {} ({})", path.display(), EXTENSIONS.join(", "));
        }
    }
    Ok(files)
}

fn json(file: &Path, outcome: &PhotoOutcome) -> Result<String> {
    Ok(serde_json::to_string(&JsonLine { file: file.to_string_lossy(), outcome })?)
}

fn table(file: &Path, outcome: &PhotoOutcome) -> String {
    match outcome {
        PhotoOutcome::Failure(failure) => format!("{}\n  {}\n", file.display(), failure.error.message),
        PhotoOutcome::Prediction(Prediction { predictions, backend, below_threshold, timing_ms, .. }) => {
            let mut table = console::table();
            for ranked in predictions {
                table.add_row([format!("{:.1} %", 100.0 * ranked.probability), ranked.label.clone()]);
            }
            console::align_right(&mut table, [0]);
            let table = table.trim_fmt();
            let note = if *below_threshold == Some(true) { NOT_CONFIDENT } else { "" };
            format!("{}  ({:.0} ms on {backend})\n{table}\n{note}", file.display(), timing_ms.total)
        }
    }
}

/// Writes predictions in long form: one row per photo and class, or one row with the error.
struct CsvWriter {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl CsvWriter {
    fn create(path: &Path) -> Result<Self> {
        let writer = csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut csv = CsvWriter { path: path.to_owned(), writer };
        csv.record(["file", "rank", "index", "label", "probability", "error"])?;
        Ok(csv)
    }

    fn write(&mut self, file: &Path, outcome: &PhotoOutcome) -> Result<()> {
        let file = file.to_string_lossy();
        match outcome {
            PhotoOutcome::Failure(failure) => self.record([&file, "", "", "", "", &failure.error.message]),
            PhotoOutcome::Prediction(prediction) => {
                prediction.predictions.iter().enumerate().try_for_each(|(rank, ranked)| {
                    let [rank, index] = [rank + 1, ranked.index].map(|number| number.to_string());
                    self.record([&file, &rank, &index, &ranked.label, &ranked.probability.to_string(), ""])
                })
            }
        }
    }

    fn record(&mut self, fields: [&str; 6]) -> Result<()> {
        self.writer.write_record(fields).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn finish(mut self) -> Result<()> {
        self.writer.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }
}
