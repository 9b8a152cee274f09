//! The summary of a comparison as a table of text: one column per checkpoint.

use super::result::{CheckpointResult, Comparison, Difference, VersusFirst};
use crate::evaluation::Estimate;
use crate::number_text::{percent, with_sign};
use bytesize::ByteSize;

/// A row of the summary.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    pub title: String,
    /// One cell per checkpoint.
    pub cells: Vec<SummaryCell>,
}

/// A cell of the summary; empty if it would compare the first checkpoint with itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummaryCell {
    pub text: String,
    /// Whether the cell is a difference whose interval excludes zero.
    pub excludes_zero: bool,
}

impl Comparison {
    /// Returns the rows of the summary. Accuracies are in per cent, and their differences in percentage points.
    pub fn summary(&self) -> Vec<SummaryRow> {
        let mut rows = vec![
            self.row("top-1", |checkpoint| percent_with_interval(checkpoint.metrics.top1)),
            self.row("top-5", |checkpoint| percent_with_interval(checkpoint.metrics.top5)),
            self.row("loss", |checkpoint| {
                let Estimate { value, low, high } = checkpoint.metrics.loss;
                format!("{value:.3} [{low:.3}, {high:.3}]")
            }),
            self.difference_row("top-1 difference", |versus| signed(versus.difference.top1, 100.0, 2)),
            self.difference_row("top-5 difference", |versus| signed(versus.difference.top5, 100.0, 2)),
            self.difference_row("loss difference", |versus| signed(versus.difference.loss, 1.0, 3)),
        ];
        let mut count_row = |title, count: fn(&VersusFirst) -> usize| {
            rows.push(self.difference_row(title, |versus| SummaryCell::plain(count(versus).to_string())));
        };
        count_row("same class predicted", |versus| versus.agreement.same_class);
        count_row("both correct", |versus| versus.agreement.both_correct);
        count_row("only first correct", |versus| versus.agreement.only_first_correct);
        count_row("only this correct", |versus| versus.agreement.only_this_correct);
        count_row("both wrong", |versus| versus.agreement.both_wrong);
        rows.push(self.difference_row("McNemar's test", |versus| {
            SummaryCell::plain(format!("p = {:.2}", versus.agreement.mcnemar_p).replace("p = 0.00", "p < 0.005"))
        }));
        rows.extend([
            self.row("architecture", |checkpoint| checkpoint.architecture.clone()),
            self.row("parameters", |checkpoint| format!("{:.2} M", checkpoint.parameters as f64 / 1e6)),
            self.row("multiply-adds", |checkpoint| {
                let side = checkpoint.input_size;
                format!("{:.3} G at {side} x {side}", checkpoint.multiply_adds as f64 / 1e9)
            }),
            self.row("file", |checkpoint| ByteSize(checkpoint.file_bytes).display().si().to_string()),
        ]);
        rows.extend(self.timing_rows());
        rows
    }

    fn timing_rows(&self) -> impl Iterator<Item = SummaryRow> {
        self.timings.iter().map(|timing| {
            let cell = |(index, time): (usize, &super::timing::CheckpointTime)| {
                let ratio = if index > 0 { format!(", {:.2} x", time.ratio_to_first) } else { String::new() };
                SummaryCell::plain(format!("{:.2} ms{ratio}", time.ms_per_photo))
            };
            let title = format!("{}, batch {}", timing.device, timing.batch);
            SummaryRow { title, cells: timing.checkpoints.iter().enumerate().map(cell).collect() }
        })
    }

    fn row(&self, title: &str, text: impl Fn(&CheckpointResult) -> String) -> SummaryRow {
        let cells = self.checkpoints.iter().map(|checkpoint| SummaryCell::plain(text(checkpoint)));
        SummaryRow { title: title.to_owned(), cells: cells.collect() }
    }

    /// Returns a row that compares each checkpoint with the first one.
    fn difference_row(&self, title: &str, cell: impl Fn(&VersusFirst) -> SummaryCell) -> SummaryRow {
        let cells = self.checkpoints.iter();
        let cells = cells.map(|checkpoint| checkpoint.versus_first.as_ref().map_or_else(SummaryCell::default, &cell));
        SummaryRow { title: title.to_owned(), cells: cells.collect() }
    }
}

impl SummaryCell {
    fn plain(text: String) -> Self {
        SummaryCell { text, excludes_zero: false }
    }
}

fn percent_with_interval(Estimate { value, low, high }: Estimate) -> String {
    format!("{} [{:.1}, {:.1}]", percent(value), 100.0 * low, 100.0 * high)
}

/// Formats a difference times `scale`.
fn signed(Difference { estimate, excludes_zero }: Difference, scale: f64, digits: usize) -> SummaryCell {
    let Estimate { value, low, high } = estimate;
    let [value, low, high] = [value, low, high].map(|value| with_sign(scale * value, digits));
    SummaryCell { text: format!("{value} [{low}, {high}]"), excludes_zero }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_scaled() {
        let estimate = Estimate { value: -0.0125, low: -0.02, high: 0.0 };
        let cell = signed(Difference { estimate, excludes_zero: false }, 100.0, 2);
        assert_eq!(cell, SummaryCell::plain("-1.25 [-2.00, 0.00]".to_owned()));
        assert_eq!(percent_with_interval(Estimate { value: 0.975, low: 0.964, high: 0.985 }), "97.5 % [96.4, 98.5]");
    }
}
