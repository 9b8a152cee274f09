//! `trainer inspect`: what a file of weights is.

use super::formats::sizes;
use super::weights_file::open;
use crate::console;
use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::Args;
use comfy_table::{ContentArrangement, Table};
use model::checkpoint::{Checkpoint, Metadata};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Show architecture, labels, sizes and metadata of a checkpoint
///
/// FILE is a checkpoint, or anything that `trainer import` reads.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// Checkpoint to read
    file: PathBuf,
    /// As JSON, with all labels
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer inspect resnet18.safetensors
  trainer inspect resnet18.safetensors --json | jq .metadata.labels";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    /// Of the whole file.
    file_bytes: u64,
    /// Whether the architecture was read off the tensors with something taken for granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    assumption: Option<String>,
    /// Trainable.
    parameters: usize,
    /// For one image of the size that preprocessing makes.
    multiply_adds: u64,
    /// By format: `i8`.
    stored: BTreeMap<&'static str, Stored>,
    metadata: &'a Metadata,
}

/// The tensors of one format, the scales of int8 included.
#[derive(Serialize)]
struct Stored {
    tensors: usize,
    bytes: usize,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let checkpoint = open(&self.file)?;
        let file_bytes = std::fs::metadata(&self.file).with_context(|| self.file.display().to_string())?.len();
        let report = Report::new(self.file.display().to_string(), file_bytes, &checkpoint);
        if self.json {
            return console::print_result(&serde_json::to_string_pretty(&report)?);
        }
        if let Some(assumption) = &report.assumption {
            console::note(assumption);
        }
        console::print_result(&report.table().trim_fmt())
    }
}

impl<'a> Report<'a> {
    fn new(file: String, file_bytes: u64, checkpoint: &'a Checkpoint) -> Self {
        let metadata = checkpoint.metadata();
        let stored = sizes(checkpoint).into_iter();
        Report {
            file,
            file_bytes,
            assumption: checkpoint.assumption(),
            parameters: metadata.architecture.parameter_count(),
            multiply_adds: metadata.architecture.multiply_adds(metadata.preprocessing.crop as usize),
            stored: stored.map(|(dtype, tensors, bytes)| (dtype.name(), Stored { tensors, bytes })).collect(),
            metadata,
        }
    }

    fn table(&self) -> Table {
        let Metadata { architecture, labels, classes, preprocessing, provenance, recipe, metrics, .. } = self.metadata;
        let crop = preprocessing.crop;
        let stem = serde_json::to_value(architecture.stem).ok();
        let stem = stem.as_ref().and_then(|stem| stem.as_str()).unwrap_or_default();
        let stored = self.stored.iter();
        let stored = stored.map(|(dtype, Stored { tensors, bytes })| {
            format!("{tensors} {dtype}, {}", ByteSize(*bytes as u64).display().si())
        });

        let mut rows = vec![
            ("file", format!("{}, {}", self.file, ByteSize(self.file_bytes).display().si())),
            ("architecture", format!("{architecture}, stem {stem}")),
            ("parameters", grouped(self.parameters)),
            ("multiply-adds", format!("{:.3} G at {crop} x {crop}", self.multiply_adds as f64 / 1e9)),
            ("tensors", stored.collect::<Vec<_>>().join("; ")),
            ("classes", format!("{}: {}", classes.len(), first(classes))),
            ("labels", first(labels)),
            (
                "preprocessing",
                format!(
                    "short side to {} ({}), middle {crop} x {crop}, mean {:?}, std {:?}",
                    preprocessing.resize,
                    format!("{:?}", preprocessing.interpolation).to_lowercase(),
                    preprocessing.mean,
                    preprocessing.std
                ),
            ),
        ];
        rows.extend(provenance.iter().map(|text| ("provenance", text.clone())));
        rows.extend(recipe.iter().map(|value| ("recipe", value.to_string())));
        rows.extend(metrics.iter().map(|value| ("metrics", value.to_string())));

        /// In characters; longer texts are wrapped.
        const WIDTH: u16 = 110;
        let mut table = console::table();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.add_rows(rows.into_iter().map(|(name, value)| [name.to_owned(), value]));
        table
    }
}

/// The first few of a list of names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ...") } else { shown }
}

/// `11,689,512`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_lists_cut() {
        assert_eq!([0, 999, 1000, 11_689_512].map(grouped), ["0", "999", "1,000", "11,689,512"]);
        let names: Vec<String> = (0..11).map(|index| index.to_string()).collect();
        assert_eq!(first(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...");
        assert_eq!(first(&names[..2]), "0, 1");
    }
}
