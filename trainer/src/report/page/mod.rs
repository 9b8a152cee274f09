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
mod numbers;
mod origin;
mod palette;
mod recipe_keys;
mod summary;
#[cfg(test)]
mod tests;

pub use confusion_cells::confusion_svg;
pub use confusion_image::confusion_png;

use super::content::Report;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use display_names::DisplayNames;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

const SCRIPT: &str = include_str!("script.js");

/// A section with its identifier and its heading.
struct Section {
    id: &'static str,
    heading: &'static str,
    content: Markup,
}

/// Returns the page.
pub fn render(report: &Report) -> String {
    let style = [&palette::style(), include_str!("style.css"), include_str!("confusion.css")].concat();
    let runs = DisplayNames::of_runs(report.runs.iter().map(|run| run.name.as_str()));
    let sections = sections(report, &runs);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(content_security_policy(&style));
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.title) }
                style { (PreEscaped(&style)) }
            }
            body {
                header {
                    h1 { (report.title) }
                    (summary::paragraphs(report, &runs))
                    (notes(&report.notes))
                    nav aria-label="Sections" {
                        @for section in &sections {
                            a href=(format_args!("#{}", section.id)) { (section.heading) }
                        }
                    }
                }
                main {
                    @for Section { id, heading, content } in &sections {
                        section id=(id) aria-labelledby=(format_args!("{id}-heading")) {
                            h2 id=(format_args!("{id}-heading")) { (heading) }
                            (content)
                        }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
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

/// Allows the page's own script and style by their hashes, images within the page, and nothing else.
fn content_security_policy(style: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let (script, style) = (hash(SCRIPT), hash(style));
    format!(
        "default-src 'none'; img-src data:; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
    )
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

/// Returns the data URI of a file.
fn data_uri(media_type: &str, file: &[u8]) -> String {
    let mut uri = format!("data:{media_type};base64,");
    BASE64_STANDARD.encode_string(file, &mut uri);
    uri
}
