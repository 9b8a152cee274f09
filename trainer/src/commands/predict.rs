//! `trainer predict`: what photos show, as a table, as JSON lines, as CSV.

use super::arguments::Processor;
use crate::console;
use crate::photos::{self, EXTENSIONS, LIMITS};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use model::checkpoint::Checkpoint;
use model::classifier::{Classifier, Prepared};
use model::engine::Report;
use model::prediction::{Failure, ModelId, Outcome, Prediction};
use serde::Serialize;
use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Say what photos show
///
/// JPEG, PNG, WebP, GIF and BMP, whatever the files are called. A photo that cannot be read is said to be so, the others
/// are still answered, and the exit status tells.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Predict {
    /// Photos, and folders whose photos (jpg, png, webp, gif, bmp) are all taken, in order of their names
    #[arg(required = true, value_name = "PHOTO|FOLDER")]
    photos: Vec<PathBuf>,
    /// Weights to use: a checkpoint of ours, or safetensors with torchvision's names
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// What the tensors cannot tell: `resnet50_v1` for a stride on the first 1x1 convolution
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    /// How many classes to name
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    #[command(flatten)]
    processor: Processor,
    /// One line of JSON a photo, in the order given
    #[arg(long)]
    json: bool,
    /// Write a table for spreadsheets as well: file, rank, index, label, probability, error
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  trainer predict cat.jpg --checkpoint checkpoints/resnet50_v1-imagenet.safetensors
  trainer predict photos/ --checkpoint mine.safetensors --json > answers.jsonl
  trainer predict photos/ --checkpoint mine.safetensors --top-k 1 --csv answers.csv";

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    file: Cow<'a, str>,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

impl Predict {
    /// Answers every photo that can be answered; an error at the end counts the others.
    pub fn run(self) -> Result<()> {
        let files = files(&self.photos)?;
        let mut checkpoint = Checkpoint::from_path(&self.checkpoint)?;
        if let Some(name) = &self.architecture {
            checkpoint = checkpoint.with_architecture(name)?;
        }
        if let Some(assumption) = checkpoint.assumption() {
            console::note(&assumption);
        }
        let name = self.checkpoint.file_stem().unwrap_or_default().to_string_lossy();
        let (device, options) = (self.processor.device, self.processor.into());
        let report: Report = |error, device| console::note(format_args!("{error}; {device} answers now"));
        let id = ModelId::of_file(&name, &self.checkpoint)
            .with_context(|| format!("cannot read {}", self.checkpoint.display()))?;
        let classifier = pollster::block_on(Classifier::new(id, checkpoint, device, options, report))?;
        if let Some(adapter) = classifier.adapter() {
            console::note(format_args!("{device} is {adapter}"));
        }
        let mut csv = self.csv.as_deref().map(Csv::create).transpose()?;

        let mut failures = 0;
        for file in &files {
            let outcome = self.predict(&classifier, file)?;
            failures += usize::from(matches!(outcome, Outcome::Failure(_)));
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

    /// A photo that cannot be read or decoded is an outcome; a device that fails is an error.
    fn predict(&self, classifier: &Classifier, file: &Path) -> Result<Outcome> {
        let prepared = match photos::read(file) {
            Ok(bytes) => Prepared::from_bytes(&bytes, &LIMITS, classifier.metadata())
                .map_err(|error| Failure::new(error.code(), error)),
            Err(failure) => Err(failure),
        };
        Ok(match prepared {
            Ok(prepared) => {
                Outcome::Prediction(pollster::block_on(classifier.classify(prepared, 0.0, self.top_k as usize))?)
            }
            Err(failure) => Outcome::Failure(failure),
        })
    }
}

/// What was given, folders replaced by their photos.
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
            bail!("{} holds no photos ({})", path.display(), EXTENSIONS.join(", "));
        }
    }
    Ok(files)
}

fn json(file: &Path, outcome: &Outcome) -> Result<String> {
    Ok(serde_json::to_string(&Line { file: file.to_string_lossy(), outcome })?)
}

fn table(file: &Path, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failure(failure) => format!("{}\n  {}\n", file.display(), failure.error.message),
        Outcome::Prediction(Prediction { predictions, backend, timing_ms, .. }) => {
            let mut table = console::table();
            for ranked in predictions {
                table.add_row([format!("{:.1} %", 100.0 * ranked.probability), ranked.label.clone()]);
            }
            console::align_right(&mut table, [0]);
            let table = table.trim_fmt();
            format!("{}  ({:.0} ms on {backend})\n{table}\n", file.display(), timing_ms.total)
        }
    }
}

/// A table in long form: a row a class of a photo, or one for a photo's error.
struct Csv {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl Csv {
    fn create(path: &Path) -> Result<Self> {
        let writer = csv::Writer::from_path(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let mut csv = Csv { path: path.to_owned(), writer };
        csv.record(["file", "rank", "index", "label", "probability", "error"])?;
        Ok(csv)
    }

    fn write(&mut self, file: &Path, outcome: &Outcome) -> Result<()> {
        let file = file.to_string_lossy();
        match outcome {
            Outcome::Failure(failure) => self.record([&file, "", "", "", "", &failure.error.message]),
            Outcome::Prediction(prediction) => {
                prediction.predictions.iter().enumerate().try_for_each(|(rank, ranked)| {
                    let [rank, index] = [rank + 1, ranked.index].map(|number| number.to_string());
                    self.record([&file, &rank, &index, &ranked.label, &ranked.probability.to_string(), ""])
                })
            }
        }
    }

    fn record(&mut self, fields: [&str; 6]) -> Result<()> {
        self.writer.write_record(fields).with_context(|| format!("{} cannot be written", self.path.display()))
    }

    fn finish(mut self) -> Result<()> {
        self.writer.flush().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}
