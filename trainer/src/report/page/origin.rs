//! Origin of the results: data, devices, durations, recipes, and the commands that repeat them.

use super::display_names::DisplayNames;
use super::recipe_keys;
use crate::html_page::numbers::{counted, duration, percent};
use crate::report::content::Report;
use crate::report::evaluation_report::EvaluationReport;
use crate::report::history::RunHistory;
use maud::{Markup, html};

/// Separates a command from the version in the log of a run.
const VERSION: &str = "  (version ";

/// Returns a list of facts for each run and for the evaluation.
pub fn tables(report: &Report, names: &DisplayNames) -> Markup {
    html! {
        @for (index, run) in report.runs.iter().enumerate() {
            h3 { "Run " span class="name" { (names.full(index)) } }
            (run_facts(run))
        }
        @if let Some(evaluation) = &report.evaluation {
            h3 { "Evaluation" }
            (evaluation_facts(evaluation))
        }
    }
}

fn run_facts(run: &RunHistory) -> Markup {
    let skipped = run.epochs.last().map_or(0, |epoch| epoch.skipped);
    let is_checkpoint = recipe_keys::keys(run).contains_key("checkpoint");
    let network = recipe_keys::network(&recipe_keys::keys(run)).unwrap_or_default();
    let commands: Vec<_> =
        run.commands.iter().map(|line| line.split_once(VERSION).unwrap_or((line.as_str(), ""))).collect();
    let version = commands.last().map_or("", |(_, version)| version.trim_end_matches(')'));
    html! {
        (facts(&[
            (if is_checkpoint { "Initial checkpoint" } else { "Architecture" }, network),
            ("Data", run.data.clone()),
            ("Devices", run.devices.clone()),
            ("Duration of the features", run.features_seconds().map(duration).unwrap_or_default()),
            ("Duration of the steps", duration(run.training_seconds())),
            ("Epochs", run.epochs.len().to_string()),
            ("Skipped files", skipped.to_string()),
            ("Version", version.to_owned()),
        ]))
        (command_lines(commands.iter().map(|(command, _)| *command)))
        details {
            summary { "Recipe" }
            pre tabindex="0" { code { (run.recipe) } }
        }
    }
}

fn evaluation_facts(report: &EvaluationReport) -> Markup {
    let checkpoint = &report.checkpoint;
    html! {
        (facts(&[
            ("Checkpoint", checkpoint.name.clone()),
            ("Architecture", format!("{}, {}", checkpoint.architecture, counted(report.classes.len(), "class", "classes"))),
            ("Input", format!("{0} × {0} pixels", checkpoint.side)),
            ("Provenance", checkpoint.provenance.clone().unwrap_or_default()),
            ("Temperature", checkpoint.temperature.map(|value| value.to_string()).unwrap_or_default()),
            ("Rejection threshold", checkpoint.rejection_threshold.map(|value| percent(value.into())).unwrap_or_default()),
            ("Data", report.data.clone()),
            ("Device", report.device.clone()),
            ("Duration", duration(report.duration.as_secs_f64())),
        ]))
        (command_lines([report.command.as_str()].into_iter()))
    }
}

/// Returns a list of names and values, without empty values.
fn facts(facts: &[(&str, String)]) -> Markup {
    html! {
        dl class="facts" {
            @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn command_lines<'a>(commands: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        @for command in commands { pre tabindex="0" { code { (command) } } }
    }
}
