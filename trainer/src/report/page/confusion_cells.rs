//! Confusion matrices as SVG, whose cells can be read one by one.

use super::display_names::{DisplayNames, columns};
use super::palette::{self, DARK, LIGHT, SHADES, shade};
use crate::evaluation::ConfusionMatrix;
use crate::html_page::numbers::{counted, percent};
use crate::report::evaluation_report::EvaluationReport;
use maud::{Markup, PreEscaped, Render, html};

/// Maximum number of classes whose cells contain counts.
const MAX_CLASSES_WITH_COUNTS: usize = 25;
/// Width of a character relative to the font size.
const CHARACTER: f64 = 0.62;

/// Some classes of a confusion matrix, in the order of their rows and columns.
pub struct MatrixPart<'a> {
    confusion: &'a ConfusionMatrix,
    classes: &'a [usize],
    names: &'a DisplayNames,
    /// Number of photos of each of the classes.
    totals: Vec<u32>,
}

/// Sizes of a matrix, in pixels.
struct Layout {
    cell: f64,
    font: f64,
    /// Width of the row labels, and height of the column labels.
    labels: f64,
}

impl<'a> MatrixPart<'a> {
    pub fn new(confusion: &'a ConfusionMatrix, classes: &'a [usize], names: &'a DisplayNames) -> Self {
        let rows: Vec<_> = confusion.rows().collect();
        let totals = classes.iter().map(|&class| rows[class].iter().sum()).collect();
        MatrixPart { confusion, classes, names, totals }
    }

    fn layout(&self) -> Layout {
        let (cell, font) = match self.classes.len() {
            0..=12 => (36.0, 12.0),
            13..=MAX_CLASSES_WITH_COUNTS => (30.0, 11.0),
            26..=50 => (15.0, 11.0),
            _ => (10.0, 9.0),
        };
        let longest = self.classes.iter().map(|&class| columns(&self.names.short(class))).max().unwrap_or(0);
        Layout { cell, font, labels: (longest as f64 * font * CHARACTER).ceil() + 10.0 }
    }
}

/// Returns the confusion matrix of all classes as an SVG file.
pub fn confusion_svg(report: &EvaluationReport) -> String {
    let names = DisplayNames::of_classes(&report.labels, &report.classes);
    let part = MatrixPart::new(&report.details.confusion, &report.similarity().order, &names);
    let style = [&palette::style(), include_str!("confusion.css")].concat();
    let (size, content) = content(&part);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="matrix file" width=(size) height=(size)
            viewBox=(format_args!("0 0 {size} {size}")) role="img" aria-label=(description(&part)) {
            style { (PreEscaped(&style)) }
            (content)
        }
    };
    svg.into_string()
}

/// Returns a part of the matrix as an element of the page.
pub fn cells(part: &MatrixPart) -> Markup {
    let (size, content) = content(part);
    html! {
        svg class="matrix" width=(size) height=(size) viewBox=(format_args!("0 0 {size} {size}"))
            role="img" aria-label=(description(part)) { (content) }
    }
}

fn description(part: &MatrixPart) -> String {
    let mut names: Vec<_> = part.classes.iter().take(12).map(|&class| part.names.medium(class)).collect();
    if part.classes.len() > names.len() {
        names.push("…".to_owned());
    }
    format!("Confusion matrix of {}: {}", counted(part.classes.len(), "class", "classes"), names.join(", "))
}

/// Returns the side of the SVG, in pixels, and its content.
fn content(part: &MatrixPart) -> (f64, Markup) {
    let layout = part.layout();
    let Layout { cell, labels, .. } = layout;
    let side = part.classes.len() as f64 * cell;
    let content = html! {
        rect class="cells" x=(labels) y=(labels) width=(side) height=(side) {}
        g font-size=(layout.font) {
            @for (index, &class) in part.classes.iter().enumerate() { (axis_labels(part, &layout, index, class)) }
            @for row in 0..part.classes.len() {
                @for column in 0..part.classes.len() { (Cell { part, layout: &layout, row, column }) }
            }
        }
        rect class="border" x=(labels) y=(labels) width=(side) height=(side) {}
    };
    (labels + side + 1.0, content)
}

/// Returns the label of a row, and that of the column of the same class.
fn axis_labels(part: &MatrixPart, layout: &Layout, index: usize, class: usize) -> Markup {
    let Layout { cell, labels, .. } = layout;
    let (near, centre) = (labels - 6.0, labels + (index as f64 + 0.5) * cell);
    let (short, full) = (part.names.short(class), part.names.full(class));
    html! {
        @for transform in [None, Some(format!("rotate(-90 {centre} {near})"))] {
            @let is_column = transform.is_some();
            text x=(if is_column { centre } else { near }) y=(if is_column { near } else { centre })
                dy="0.35em" text-anchor=(if is_column { "start" } else { "end" }) transform=[transform] {
                @if short != full { title { (part.names.medium(class)) } }
                (short)
            }
        }
    }
}

/// A cell of the matrix. Cells without photos are not drawn.
struct Cell<'a> {
    part: &'a MatrixPart<'a>,
    layout: &'a Layout,
    row: usize,
    column: usize,
}

impl Render for Cell<'_> {
    fn render(&self) -> Markup {
        let Cell { part, layout: Layout { cell, labels, .. }, row, column } = *self;
        let (actual, predicted) = (part.classes[row], part.classes[column]);
        let photos = part.confusion.count(actual, predicted);
        if photos == 0 {
            return html! {};
        }
        let is_correct = row == column;
        let rate = f64::from(photos) / f64::from(part.totals[row]);
        let shade = shade(rate);
        let (x, y) = (labels + column as f64 * cell, labels + row as f64 * cell);
        let title = format!(
            "actual {}, predicted {}: {} of {} ({})",
            part.names.medium(actual),
            part.names.medium(predicted),
            photos,
            counted(part.totals[row] as usize, "photo", "photos"),
            percent(rate)
        );
        html! {
            rect class=(if is_correct { "correct" } else { "error" }) x=(x) y=(y) width=(cell) height=(cell)
                fill-opacity=(f64::from(shade) / f64::from(SHADES)) { title { (title) } }
            @if part.classes.len() <= MAX_CLASSES_WITH_COUNTS {
                text class=(text_class(shade, is_correct)) x=(x + cell / 2.0) y=(y + cell / 2.0) dy="0.35em"
                    text-anchor="middle" { (short_count(photos)) }
            }
        }
    }
}

/// Returns the class of a count, for a legible colour in the light and in the dark colour scheme.
fn text_class(shade: u8, is_correct: bool) -> &'static str {
    match (LIGHT.is_dark(shade, is_correct), DARK.is_dark(shade, is_correct)) {
        (false, false) => "count black",
        (false, true) => "count black-white",
        (true, false) => "count white-black",
        (true, true) => "count white",
    }
}

/// Returns a count with at most five characters.
fn short_count(count: u32) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fit_into_cells() {
        assert_eq!([9, 9_999, 10_000, 999_999, 4_294_967_295].map(short_count), ["9", "9999", "10k", "999k", "4294M"]);
    }
}
