//! The page of a report: one HTML file without references to other files, which is complete without JavaScript. The script
//! only adds sorting, filters, and the values under the pointer. A content security policy forbids everything else.

mod calibration;
mod chart;
mod class_table;
mod comparison;
mod confusion;
mod confusion_cells;
mod confusion_image;
mod curves;
mod display_names;
mod evaluation;
mod misclassified;
mod origin;
mod palette;
mod recipe_keys;
mod summary;
#[cfg(test)]
mod tests;

pub use confusion_cells::confusion_svg;
pub use confusion_image::confusion_png;

use super::content::Report;
use crate::html_page::HtmlPage;
use display_names::DisplayNames;
use maud::{Markup, html};

/// Style sheets of the parts of the page.
const PAGE: &str = concat!(
    include_str!("page.css"),
    include_str!("tables.css"),
    include_str!("charts.css"),
    include_str!("photos.css"),
    include_str!("confusion.css")
);

/// A section with its identifier and its heading.
struct Section {
    id: &'static str,
    heading: &'static str,
    content: Markup,
}

/// Returns the page.
pub fn render(report: &Report) -> String {
    let style = [&palette::style(), PAGE].concat();
    let runs = DisplayNames::of_runs(report.runs.iter().map(|run| run.name.as_str()));
    let sections = sections(report, &runs);
    let header = html! {
        (summary::paragraphs(report, &runs))
        (notes(&report.notes))
        nav aria-label="Sections" {
            @for section in &sections { a href=(format_args!("#{}", section.id)) { (section.heading) } }
        }
    };
    let main = html! {
        @for Section { id, heading, content } in &sections {
            section id=(id) aria-labelledby=(format_args!("{id}-heading")) {
                h2 id=(format_args!("{id}-heading")) { (heading) }
                (content)
            }
        }
    };
    HtmlPage { title: &report.title, style: &style, script: include_str!("script.js"), header, main }.render()
}

fn sections(report: &Report, runs: &DisplayNames) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut add = |id, heading, content| sections.push(Section { id, heading, content });
    if !report.runs.is_empty() {
        let content = html! { (comparison::table(&report.runs, runs)) (curves::charts(&report.runs, runs)) };
        add("training", "Training", content);
    }
    if let Some(evaluation) = &report.evaluation {
        let names = DisplayNames::of_classes(&evaluation.labels, &evaluation.classes);
        add("evaluation", "Evaluation", evaluation::metrics(evaluation));
        add("confusion", "Confusion matrix", confusion::figures(evaluation, &names));
        add("classes", "Classes", class_table::table(evaluation, &names));
        add("calibration", "Calibration", calibration::charts(&evaluation.calibration));
        add("misclassified", "Misclassified photos", misclassified::photos(evaluation, &names));
    }
    add("origin", "Data, devices and commands", origin::tables(report, runs));
    sections
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            ul class="notes" aria-label="Notes" {
                @for note in notes { li { (note) } }
            }
        }
    }
}
