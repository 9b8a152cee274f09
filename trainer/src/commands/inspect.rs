//! `trainer inspect`: the contents of a file of weights.

use super::dtypes::sizes;
use crate::console;
use crate::weights_file::{file_bytes, open_weights};
use anyhow::Result;
use bytesize::ByteSize;
use checkpoints::CheckpointSource;
use clap::Args;
use comfy_table::{ContentArrangement, Table};
use model::architecture::{Architecture, Widths};
use model::checkpoint::{Checkpoint, Metadata};
use serde::Serialize;
use std::collections::BTreeMap;

/// Show the architecture, labels, sizes and metadata of a checkpoint
///
/// FILE is a checkpoint, any file that `trainer import` reads, or one of the bundled checkpoints resnet18-imagenette and
/// resnet50_v1-imagenet.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Inspect {
    /// File to read, or name of a bundled checkpoint
    file: CheckpointSource,
    /// Print JSON, with all labels
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer inspect resnet18.safetensors
  trainer inspect resnet18-imagenette --json | jq .metadata.labels";

/// The output of `--json`.
#[derive(Serialize)]
struct FileReport<'a> {
    file: String,
    /// Size of the whole file.
    file_bytes: u64,
    /// The assumption that was made to infer the architecture from the tensors, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    assumption: Option<String>,
    /// Number of trainable parameters.
    parameters: usize,
    /// Number of multiply-adds for one image of the size that preprocessing returns.
    multiply_adds: u64,
    /// Tensors by format, such as `i8`.
    stored: BTreeMap<&'static str, Stored>,
    metadata: &'a Metadata,
}

/// The tensors of one format, including the scales of int8.
#[derive(Serialize)]
struct Stored {
    tensors: usize,
    bytes: usize,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        let checkpoint = open_weights(&self.file)?;
        let report = FileReport::new(self.file.to_string(), file_bytes(&self.file)?, &checkpoint);
        if self.json {
            return console::print_result(&serde_json::to_string_pretty(&report)?);
        }
        if let Some(assumption) = &report.assumption {
            console::note(assumption);
        }
        console::print_result(&report.table().trim_fmt())
    }
}

impl<'a> FileReport<'a> {
    fn new(file: String, file_bytes: u64, checkpoint: &'a Checkpoint) -> Self {
        let metadata = checkpoint.metadata();
        let stored = sizes(checkpoint).into_iter();
        FileReport {
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
        let Metadata { architecture, labels, classes, preprocessing, temperature, .. } = self.metadata;
        let Metadata { rejection_threshold, provenance, recipe, metrics, .. } = self.metadata;
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
            ("channels", channels(architecture)),
            ("parameters", with_separators(self.parameters)),
            ("multiply-adds", format!("{:.3} G at {crop} x {crop}", self.multiply_adds as f64 / 1e9)),
            ("tensors", stored.collect::<Vec<_>>().join("; ")),
            ("classes", format!("{}: {}", classes.len(), first_names(classes))),
            ("labels", first_names(labels)),
            (
                "preprocessing",
                format!(
                    "resize short side to {} ({}), centre crop {crop} x {crop}, mean {:?}, std {:?}",
                    preprocessing.resize,
                    format!("{:?}", preprocessing.interpolation).to_lowercase(),
                    preprocessing.mean,
                    preprocessing.std
                ),
            ),
        ];
        rows.extend(temperature.iter().map(|value| ("temperature", value.to_string())));
        rows.extend(rejection_threshold.iter().map(|value| ("rejection threshold", value.to_string())));
        rows.extend(provenance.iter().map(|text| ("provenance", text.clone())));
        rows.extend(recipe.iter().map(|value| ("recipe", value.to_string())));
        rows.extend(metrics.iter().map(|value| ("metrics", value.to_string())));

        rows.retain(|(_, value)| !value.is_empty());

        /// Maximum width, in characters; longer texts are wrapped.
        const WIDTH: u16 = 110;
        let mut table = console::table();
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        table.add_rows(rows.into_iter().map(|(name, value)| [name.to_owned(), value]));
        table
    }
}

/// Lists the numbers of channels that differ from those of the variant, or returns an empty string.
fn channels(architecture: &Architecture) -> String {
    let (widths, unpruned) = (architecture.widths(), Widths::of_variant(architecture.variant));
    let groups = architecture.channel_groups().into_iter();
    let pruned = groups.filter(|group| widths.get(*group) != unpruned.get(*group));
    let pruned: Vec<_> = pruned.map(|group| format!("{group} {}/{}", widths.get(group), unpruned.get(group))).collect();
    pruned.join(", ")
}

/// Returns the first names of a list, separated by commas.
fn first_names(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, ...") } else { shown }
}

/// Formats a number with thousands separators: `11,689,512`.
fn with_separators(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_long_lists_are_truncated() {
        assert_eq!([0, 999, 1000, 11_689_512].map(with_separators), ["0", "999", "1,000", "11,689,512"]);
        let names: Vec<String> = (0..11).map(|index| index.to_string()).collect();
        assert_eq!(first_names(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...");
        assert_eq!(first_names(&names[..2]), "0, 1");
    }
}
