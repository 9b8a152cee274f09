//! The curves of the runs: loss, accuracy, learning rate and speed.

use super::chart::{Axis, LineChart, Point, Series, Stroke, line_class};
use super::display_names::DisplayNames;
use crate::html_page::numbers::percent;
use crate::report::history::RunHistory;
use crate::training::{EpochRecord, StepRecord};
use maud::{Markup, html};

/// Colours of the curves of a single run.
const TRAINING: usize = 0;
const VALIDATION: usize = 1;

/// A quantity that is recorded during training, and its chart.
struct Quantity {
    title: &'static str,
    unit: &'static str,
    /// Factor from the recorded to the shown value.
    factor: f64,
    step: fn(&StepRecord) -> Option<f64>,
    epoch: Option<fn(&EpochRecord) -> Option<f64>>,
    validation: Option<fn(&EpochRecord) -> Option<f64>>,
    /// Whether the best epoch is marked on the curve of validation.
    marks_best: bool,
}

const QUANTITIES: [Quantity; 5] = [
    Quantity {
        title: "Loss",
        unit: "",
        factor: 1.0,
        step: |record| record.train.loss,
        epoch: Some(|record| record.train.loss),
        validation: Some(|record| record.val.loss),
        marks_best: false,
    },
    Quantity {
        title: "Top-1, %",
        unit: "\u{a0}%",
        factor: 100.0,
        step: |record| record.train.top1,
        epoch: Some(|record| record.train.top1),
        validation: Some(|record| Some(record.val.top1)),
        marks_best: true,
    },
    Quantity {
        title: "Learning rate",
        unit: "",
        factor: 1.0,
        step: |record| Some(record.learning_rate),
        epoch: None,
        validation: None,
        marks_best: false,
    },
    Quantity {
        title: "Throughput, images/s",
        unit: " images/s",
        factor: 1.0,
        step: |record| record.train.images_per_second,
        epoch: Some(|record| record.train.images_per_second),
        validation: None,
        marks_best: false,
    },
    Quantity {
        title: "Time spent waiting for photos, %",
        unit: "\u{a0}%",
        factor: 100.0,
        step: |record| record.train.waiting,
        epoch: Some(|record| record.train.waiting),
        validation: None,
        marks_best: false,
    },
];

/// Returns the legend and one chart per quantity, in which all runs are overlaid.
pub fn charts(runs: &[RunHistory], names: &DisplayNames) -> Markup {
    if runs.iter().all(|run| run.steps.is_empty() && run.epochs.is_empty()) {
        return html! { p { "No step was recorded." } };
    }
    html! {
        (legend(runs, names))
        div class="charts" {
            @for quantity in &QUANTITIES { (chart(quantity, runs, names).render()) }
        }
    }
}

/// Returns a short line in the colour of a run.
pub fn swatch(run: usize) -> Markup {
    line_sample(run, Stroke::Solid)
}

fn line_sample(colour: usize, stroke: Stroke) -> Markup {
    html! {
        svg class="swatch" viewBox="0 0 24 10" aria-hidden="true" { path class=(line_class(colour, stroke)) d="M1,5H23" {} }
    }
}

fn legend(runs: &[RunHistory], names: &DisplayNames) -> Markup {
    html! {
        ul class="legend" aria-label="Legend" {
            @if runs.len() > 1 {
                @for index in 0..runs.len() { li { (swatch(index)) span class="name" { (names.full(index)) } } }
                li class="neutral" { (line_sample(0, Stroke::Thin)) "training steps" }
                li class="neutral" { (line_sample(0, Stroke::Dashed)) "training (mean of the epoch)" }
                li class="neutral" { (line_sample(0, Stroke::Solid)) "validation, learning rate" }
            } @else {
                li { (line_sample(TRAINING, Stroke::Thin)) "training steps" }
                li { (line_sample(TRAINING, Stroke::Solid)) "training (mean of the epoch)" }
                li { (line_sample(VALIDATION, Stroke::Solid)) "validation" }
            }
        }
    }
}

fn chart(quantity: &Quantity, runs: &[RunHistory], names: &DisplayNames) -> LineChart<'static> {
    let curves = runs.iter().enumerate().flat_map(|(index, run)| {
        let run_name = if runs.len() > 1 { format!("{}, ", names.short(index)) } else { String::new() };
        run_series(quantity, run, index, runs.len() == 1, &run_name)
    });
    // Noisy curves of all runs come first, so that the others are drawn over them.
    let mut series: Vec<_> = curves.collect();
    series.sort_by_key(|series| series.stroke);
    let last = runs.iter().map(last_epoch).fold(0.0, f64::max);
    let intervals = if last < 2.0 { 5 } else { (last as usize).min(6) };
    LineChart {
        title: quantity.title,
        unit: quantity.unit,
        x: Axis::up_to(last, intervals),
        x_label: "epoch",
        x_unit: "",
        note: "",
        series,
    }
}

/// Returns the curves of a run.
fn run_series(quantity: &Quantity, run: &RunHistory, index: usize, is_only: bool, run_name: &str) -> Vec<Series> {
    let point = |x: f64, y: Option<f64>| Point { x, y: y.map_or(f64::NAN, |y| quantity.factor * y), note: None };
    let of_epochs = |value: fn(&EpochRecord) -> Option<f64>| -> Vec<Point> {
        run.epochs.iter().map(|record| point(record.epoch as f64, value(record))).collect()
    };
    let steps = run.steps.iter().map(|record| point(position(run, record), (quantity.step)(record)));
    let name = |kind: &str| format!("{run_name}{kind}");
    let (training, validation) = if is_only { (TRAINING, VALIDATION) } else { (index, index) };
    let (step_stroke, epoch_stroke) = match (quantity.epoch, is_only) {
        (None, _) => (Stroke::Solid, Stroke::Solid),
        (_, true) => (Stroke::Thin, Stroke::Solid),
        (_, false) => (Stroke::Thin, Stroke::Dashed),
    };
    let series = |name, colour, stroke, points| Series { name, colour, stroke, points, marks: Vec::new() };
    let mut curves = vec![series(name("training steps"), training, step_stroke, steps.collect())];
    if let Some(value) = quantity.epoch {
        curves.push(series(name("training"), training, epoch_stroke, of_epochs(value)));
    }
    if let Some(value) = quantity.validation {
        let marks = match run.best() {
            Some(best) if quantity.marks_best => {
                let label =
                    if is_only { format!("epoch {}: {}", best.epoch, percent(best.val.top1)) } else { String::new() };
                vec![(point(best.epoch as f64, Some(best.val.top1)), label)]
            }
            _ => Vec::new(),
        };
        curves.push(Series { marks, ..series(name("validation"), validation, Stroke::Solid, of_epochs(value)) });
    }
    curves
}

/// Returns the position of a record on the axis of epochs: the end of its last step.
fn position(run: &RunHistory, record: &StepRecord) -> f64 {
    (record.epoch as f64 - 1.0) + record.step as f64 / run.steps_per_epoch.max(record.step).max(1) as f64
}

fn last_epoch(run: &RunHistory) -> f64 {
    let step = run.steps.last().map_or(0.0, |record| position(run, record));
    run.epochs.last().map_or(0.0, |record| record.epoch as f64).max(step)
}
