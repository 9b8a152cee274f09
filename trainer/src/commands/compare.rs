//! `trainer compare`: accuracy and cost of several checkpoints on the same labelled photos.

use super::arguments::DeviceArgs;
use super::validation_photos::{ValidationPhotos, report_skipped};
use crate::comparison::{Candidate, Comparison, EngineSettings, SummaryCell, SummaryRow, render};
use crate::console;
use anyhow::{Context, Result, ensure};
use checkpoints::CheckpointSource;
use clap::Args;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use std::fs;
use std::path::{Path, PathBuf};

/// Width of the tables for up to three checkpoints, in characters.
const TABLE_WIDTH: u16 = 100;
/// Additional width for each further checkpoint.
const WIDTH_PER_CHECKPOINT: u16 = 26;
/// Maximum width of the location of a photo that is not wrapped, in characters.
const MAX_FILE_WIDTH: u16 = 36;
/// Width of the space around a cell, in characters.
const PADDING: u16 = 2;

/// Compare checkpoints on the same labelled photos
///
/// Prints top-1, top-5 and loss of each checkpoint, and their differences to the first checkpoint, with 95 % confidence intervals;
/// the sizes of the checkpoints; their times per photo on each device of this machine; and the photos that they classify differently.
/// The checkpoints must have the same classes, in any order. Each uses its own preprocessing. Unreadable files are reported and
/// skipped.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// Checkpoints to compare: files, or the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet
    #[arg(required = true, num_args = 2.., value_name = "FILE|NAME")]
    checkpoints: Vec<CheckpointSource>,
    #[command(flatten)]
    photos: ValidationPhotos,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Do not measure times
    #[arg(long)]
    skip_timing: bool,
    /// Maximum number of printed photos that are classified differently; JSON has all
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "json")]
    disagreements: usize,
    /// Write a self-contained HTML page with the comparison, the recall of each class, and photos that are classified
    /// differently
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Leave photos out of the page
    #[arg(long, requires = "report")]
    no_photos: bool,
    /// Print one JSON document, with accuracies as fractions
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer compare runs/finetune-1/best.safetensors runs/finetune-2/best.safetensors --data photos
  trainer compare resnet18-imagenette small.safetensors --data imagenette/val --report comparison.html
  trainer compare a.safetensors b.safetensors --data photos --json | jq '.checkpoints[1].versus_first.difference.top1'";

impl Compare {
    pub fn run(self) -> Result<()> {
        self.check_report_folder()?;
        let candidates = Candidate::open_all(&self.checkpoints)?;
        let samples = self.photos.samples(&candidates[0].checkpoint.metadata().classes)?;
        let settings = EngineSettings {
            device: self.device_args.device,
            options: self.device_args.into(),
            batch_size: self.photos.batch_size,
        };
        let mut comparison = Comparison::compute(&candidates, &self.photos.data, &samples, settings)?;
        report_skipped(&comparison.skipped_files);
        if !self.skip_timing {
            comparison.measure_times(&candidates, settings)?;
        }
        if let Some(file) = &self.report {
            self.write_page(&comparison, file)?;
        }
        let text = if self.json { serde_json::to_string(&comparison)? } else { self.to_text(&comparison) };
        console::print_result(&text)
    }

    /// Reports an unusable path before the photos are classified.
    fn check_report_folder(&self) -> Result<()> {
        if let Some(file) = &self.report {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            ensure!(!file.is_dir(), "{} is a folder; choose a file for --report", file.display());
            ensure!(folder.is_dir(), "folder {} does not exist; create it for --report", folder.display());
        }
        Ok(())
    }

    fn write_page(&self, comparison: &Comparison, file: &Path) -> Result<()> {
        let page = render(comparison, !self.no_photos);
        fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        console::wrote(file);
        Ok(())
    }

    fn to_text(&self, comparison: &Comparison) -> String {
        let mut text = summary_text(comparison);
        let all = comparison.disagreements.len();
        let shown = all.min(self.disagreements);
        text += &format!("\n\nphotos that the checkpoints classify differently: {all}");
        if shown < all {
            text += &format!(" ({shown} shown; --json lists all)");
        }
        if shown > 0 {
            text += &format!("\n\n{}", disagreement_table(comparison, shown).trim_fmt());
        }
        text
    }
}

/// Returns the table of accuracies, sizes and times, with explanations.
pub(super) fn summary_text(comparison: &Comparison) -> String {
    let Comparison { photos, skipped, confidence_level, resamples, checkpoints, .. } = comparison;
    let mut text = summary_table(comparison).trim_fmt();
    let first = &checkpoints[0].name;
    text += &format!(
        "\n\n{photos} photos, {skipped} skipped. Brackets contain {:.0} % confidence intervals from {resamples} bootstrap\n\
         resamples of the photos. Differences and numbers of photos are relative to {first}.\n\
         Differences of accuracies are in percentage points. *: the interval excludes zero.",
        100.0 * confidence_level,
    );
    if !comparison.timings.is_empty() {
        text += "\nTimes are medians per photo, from pixels to logits, and their ratios.";
    }
    text
}

fn summary_table(comparison: &Comparison) -> Table {
    let mut table = table_with_header(comparison, &[""]);
    let text = |SummaryCell { text, excludes_zero }: SummaryCell| if excludes_zero { text + " *" } else { text };
    for SummaryRow { title, cells } in comparison.summary() {
        table.add_row([title].into_iter().chain(cells.into_iter().map(text)));
    }
    table
}

/// Returns a table of the first `shown` disagreements, with the most likely class of each checkpoint and its probability.
fn disagreement_table(comparison: &Comparison, shown: usize) -> Table {
    let mut table = table_with_header(comparison, &["photo", "correct class"]);
    let mut longest = 0;
    for disagreement in &comparison.disagreements[..shown] {
        let file = comparison.relative_file(disagreement);
        longest = longest.max(file.chars().count() as u16);
        let cells = [file, disagreement.name.label.clone()];
        let predictions = disagreement.predictions.iter();
        let predictions = predictions.map(|class| format!("{} {:.2}", class.name.label, class.probability));
        table.add_row(cells.into_iter().chain(predictions));
    }
    if let Some(column) = table.column_mut(0) {
        let width = longest.min(MAX_FILE_WIDTH) + PADDING;
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
    }
    table
}

/// Returns a table with these columns and one column per checkpoint. Long texts are wrapped.
fn table_with_header(comparison: &Comparison, columns: &[&str]) -> Table {
    let mut table = console::table();
    let names = comparison.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str());
    let more = comparison.checkpoints.len().saturating_sub(3) as u16;
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(TABLE_WIDTH + more * WIDTH_PER_CHECKPOINT)
        .set_header(columns.iter().copied().chain(names));
    table
}
