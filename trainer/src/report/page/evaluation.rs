//! The headline metrics of the evaluation, and the files that could not be decoded.

use crate::data::SkippedSample;
use crate::html_page::numbers::{count, decimals, percent};
use crate::report::evaluation_report::EvaluationReport;
use maud::{Markup, html};

/// Maximum number of skipped files that are listed.
const LISTED_FILES: usize = 100;

/// Returns the metrics as a list of names and values.
pub fn metrics(report: &EvaluationReport) -> Markup {
    let metrics = &report.details.metrics;
    let values = [
        ("Top-1", percent(metrics.top1)),
        ("Top-5", percent(metrics.top5)),
        ("Loss", decimals(metrics.loss, 3)),
        ("Expected calibration error", percent(report.calibration.expected_error)),
        ("Photos", count(metrics.photos)),
        ("Skipped files", count(metrics.skipped)),
    ];
    html! {
        dl class="metrics" {
            @for (name, value) in &values { div { dt { (name) } dd { (value) } } }
        }
        (skipped_files(&report.details.skipped))
    }
}

fn skipped_files(skipped: &[SkippedSample]) -> Markup {
    html! {
        @if !skipped.is_empty() {
            details {
                summary { "Files that could not be decoded" }
                ul class="files" {
                    @for SkippedSample { location, reason } in skipped.iter().take(LISTED_FILES) {
                        li { code { (location.to_string()) } ": " (reason) }
                    }
                    @if skipped.len() > LISTED_FILES {
                        li { "and " (count(skipped.len() - LISTED_FILES)) " more" }
                    }
                }
            }
        }
    }
}
