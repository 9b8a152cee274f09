//! The confusion matrix: as SVG or, for many classes, as an image; and the most confused groups of classes, enlarged.

use super::confusion_cells::{MatrixPart, cells};
use super::confusion_image::{self, MAX_SIDE};
use super::display_names::DisplayNames;
use super::palette::{DARK, LIGHT, Palette, SHADES, shade};
use crate::evaluation::ConfusionMatrix;
use crate::html_page::data_uri;
use crate::html_page::numbers::count;
use crate::report::evaluation_report::EvaluationReport;
use maud::{Markup, PreEscaped, html};
use serde::Serialize;

/// Maximum number of classes of a matrix as SVG.
const MAX_SVG_CLASSES: usize = 100;
/// Number of enlarged groups. A group has at most twelve classes, so a smaller matrix needs none.
const GROUPS: usize = 6;
const MAX_GROUP: usize = 12;
/// Minimum side of the image of a matrix, in pixels of CSS.
const IMAGE_SIDE: usize = 600;

/// Returns the matrix and the groups.
pub fn figures(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let order = &report.similarity().order;
    let confusion = &report.details.confusion;
    html! {
        p {
            "Rows are the actual classes and columns the predicted ones. Classes that are often confused are next to each other."
            @if order.len() > MAX_SVG_CLASSES { (image_hint(order.len())) }
        }
        (legend())
        div class="confusion" {
            @if order.len() > MAX_SVG_CLASSES {
                (image(report, names))
            } @else {
                div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix" {
                    (cells(&MatrixPart::new(confusion, order, names)))
                }
            }
            @if order.len() > MAX_GROUP { (groups(report, names)) }
        }
    }
}

fn image_hint(classes: usize) -> Markup {
    let block = confusion_image::block(classes);
    html! {
        " Rates below 9\u{a0}% have the colour of 9\u{a0}%, so that single errors are visible."
        @if block > 1 { " A pixel stands for " (block) " × " (block) " classes, with the largest rate among them." }
        @else { span class="script-only" { " Point at a pixel to see its classes and counts." } }
    }
}

/// Returns samples of the two colours. The share of a row is the colour's scale.
fn legend() -> Markup {
    let rates = [("1", 0.01), ("10", 0.1), ("25", 0.25), ("50", 0.5), ("100", 1.0)];
    html! {
        ul class="legend" aria-label="Colours" {
            @for (class, name) in [("correct", "correct"), ("error", "error")] {
                li {
                    (name) ": "
                    @for (label, rate) in rates {
                        svg class="matrix patch" viewBox="0 0 16 10" aria-hidden="true" {
                            rect class=(class) width="16" height="10" fill-opacity=(f64::from(shade(rate)) / f64::from(SHADES)) {}
                        }
                        (label) " "
                    }
                    "\u{a0}% of the photos of the actual class"
                }
            }
        }
    }
}

fn groups(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let confusion = &report.details.confusion;
    let groups = report.similarity().most_confused_groups(confusion, GROUPS);
    html! {
        @if !groups.is_empty() {
            div class="groups" {
                h3 { "Most confused groups" }
                @for group in groups {
                    div class="scroll" tabindex="0" role="region" aria-label="Group of classes" {
                        (cells(&MatrixPart::new(confusion, group, names)))
                    }
                }
            }
        }
    }
}

/// Returns the matrix as an image for each colour scheme, and the counts for the page's script.
fn image(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let (order, confusion) = (&report.similarity().order, &report.details.confusion);
    let source = |palette: &Palette| data_uri("image/png", &confusion_image::encode(confusion, order, palette, 1));
    let side = confusion_image::side(order.len());
    let shown = side * (IMAGE_SIDE / side).max(1);
    let errors = report.details.predictions.iter().filter(|prediction| !prediction.is_correct()).count();
    let description = format!("Confusion matrix of {} classes, with {} errors", count(order.len()), count(errors));
    html! {
        div class="scroll matrix-image" tabindex="0" role="region" aria-label="Confusion matrix" {
            picture {
                source srcset=(source(&DARK)) media="screen and (prefers-color-scheme: dark)";
                img src=(source(&LIGHT)) alt=(description) width=(shown) height=(shown);
            }
        }
        @if order.len() <= MAX_SIDE {
            script type="application/json" id="confusion-counts" { (PreEscaped(counts(confusion, order, names))) }
        }
    }
}

/// Counts of a confusion matrix, without zeros.
#[derive(Serialize)]
struct Counts {
    /// Names of the classes, in the order of the image.
    names: Vec<String>,
    /// For each row, alternately the distance of a non-zero cell from the previous one (from -1 for the first), and its count.
    rows: Vec<Vec<u32>>,
}

/// Returns the counts as JSON, which contains no tags.
fn counts(confusion: &ConfusionMatrix, order: &[usize], names: &DisplayNames) -> String {
    let row = |&actual: &usize| {
        let mut cells = Vec::new();
        let mut distance = 0;
        for &predicted in order {
            distance += 1;
            let count = confusion.count(actual, predicted);
            if count > 0 {
                cells.extend([distance, count]);
                distance = 0;
            }
        }
        cells
    };
    let names = order.iter().map(|&class| names.medium(class)).collect();
    let counts = Counts { names, rows: order.iter().map(row).collect() };
    serde_json::to_string(&counts).expect("names and numbers can be serialised").replace('<', "\\u003c")
}
