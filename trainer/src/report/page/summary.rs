//! The first paragraphs of the page: the result in numbers.

use super::display_names::DisplayNames;
use super::recipe_keys;
use crate::html_page::numbers::{count, counted, decimals, duration, percent};
use crate::report::content::Report;
use crate::report::evaluation_report::EvaluationReport;
use crate::report::history::RunHistory;
use maud::{Markup, html};

/// Returns one paragraph about the runs, and one about the evaluation.
pub fn paragraphs(report: &Report, names: &DisplayNames) -> Markup {
    html! {
        @if let Some(best) = best_run(&report.runs) {
            p class="summary" { (runs(&report.runs, best, names)) }
        }
        @if let Some(evaluation) = &report.evaluation {
            p class="summary" { (evaluation_text(evaluation)) }
        }
    }
}

/// Returns the index of the run with the best top-1, or of the first run if none has completed an epoch. Returns `None`
/// for runs on different photos, whose metrics cannot be compared.
pub fn best_run(runs: &[RunHistory]) -> Option<usize> {
    if runs.iter().any(|run| run.photos != runs[0].photos) {
        return None;
    }
    let top1 = |run: &RunHistory| run.best().map_or(-1.0, |epoch| epoch.val.top1);
    // Of equal runs, the first is the best one.
    (0..runs.len()).rev().max_by(|&a, &b| top1(&runs[a]).total_cmp(&top1(&runs[b])))
}

fn runs(runs: &[RunHistory], best: usize, names: &DisplayNames) -> Markup {
    let run = &runs[best];
    html! {
        @if runs.len() > 1 { "The best of " (runs.len()) " runs is " b class="name" { (names.full(best)) } ". " }
        @match run.best() {
            Some(epoch) => {
                "The best epoch is " b { (epoch.epoch) } " of " (run.epochs.len()) (planned(run)) ": top-1 "
                b { (percent(epoch.val.top1)) } " of " (counted(epoch.val.photos, "validation photo", "validation photos")) ", loss "
                b { (decimals(epoch.val.loss.unwrap_or(f64::NAN), 3)) } ". "
            }
            None => { "No epoch was completed. " }
        }
        "Training took " (duration(run.training_seconds())) " on " (run.devices)
        @if let Some(seconds) = run.features_seconds() { ", after " (duration(seconds)) " for the features" }
        "."
    }
}

/// Names the number of epochs of the recipe, if the run has not completed all of them.
fn planned(run: &RunHistory) -> String {
    let planned = recipe_keys::epochs(&recipe_keys::keys(run)).filter(|&planned| planned != run.epochs.len());
    planned.map(|planned| format!(" completed epochs ({} in the recipe)", count(planned))).unwrap_or_default()
}

fn evaluation_text(report: &EvaluationReport) -> Markup {
    let metrics = &report.details.metrics;
    html! {
        "The checkpoint " b class="name" { (report.checkpoint.name) } " (" (report.checkpoint.architecture) ", "
        (report.checkpoint.side) "\u{a0}px) classifies " b { (percent(metrics.top1)) } " of "
        (counted(metrics.photos, "photo", "photos")) " in " (counted(report.classes.len(), "class", "classes"))
        " correctly, with a loss of " b { (decimals(metrics.loss, 3)) } ". The evaluation took "
        (duration(report.duration.as_secs_f64())) " on " (report.device) "."
    }
}
