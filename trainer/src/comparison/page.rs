//! The comparison as one self-contained HTML page.

use super::disagreement::{Disagreement, PredictedClass};
use super::interval_chart::interval_chart;
use super::result::{ClassRecall, Comparison};
use super::summary::SummaryRow;
use crate::command_line;
use crate::html_page::numbers::{count, counted, percent};
use crate::html_page::{HtmlPage, data_uri};
use crate::number_text::with_sign;
use crate::thumbnail::{image_to_jpeg, square_centre};
use maud::{Markup, html};
use rayon::prelude::*;

/// Maximum number of disagreements on the page.
const MAX_DISAGREEMENTS: usize = 100;
/// Width and height of a photo, in pixels.
const PHOTO_SIDE: u32 = 128;

/// Renders the page, with or without photos.
pub fn render(comparison: &Comparison, with_photos: bool) -> String {
    let names: Vec<_> = comparison.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
    let title = format!("Comparison of {}", names.join(", "));
    let main = html! {
        (accuracy(comparison, &names))
        (summary(comparison, &names))
        (classes(comparison, &names))
        (disagreements(comparison, &names, with_photos))
        (skipped(comparison))
        (origin())
    };
    let header = html! { p { (introduction(comparison)) } };
    HtmlPage { title: &title, style: include_str!("page.css"), script: "", header, main }.render()
}

/// The command that repeats the comparison, and the version of the program.
fn origin() -> Markup {
    html! {
        section {
            h2 { "Command" }
            pre { code { (command_line::of_this_process()) } }
            p.soft { "Version " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

fn introduction(comparison: &Comparison) -> Markup {
    let Comparison { data, device, precision, photos, skipped, .. } = comparison;
    html! {
        (counted(*photos, "photo", "photos")) " of " code { (data) } ", classified on device " (device) " in " (precision) "; "
        (counted(*skipped, "file", "files")) " could not be decoded."
    }
}

fn accuracy(comparison: &Comparison, names: &[&str]) -> Markup {
    let top1 = comparison.checkpoints.iter().map(|checkpoint| checkpoint.metrics.top1);
    let rows: Vec<_> = names.iter().copied().zip(top1).collect();
    html! {
        section {
            h2 { "Top-1" }
            div.scroll tabindex="0" role="region" aria-label="Chart of top-1" {
                (interval_chart("Top-1 with confidence intervals", &rows))
            }
            p.soft {
                "Lines are " (format!("{:.0} %", 100.0 * comparison.confidence_level)) " confidence intervals (percentiles of "
                (count(comparison.resamples)) " bootstrap resamples of the photos). All checkpoints classify the same photos, so their \
                differences are more certain than these intervals suggest: see the intervals of the differences below."
            }
        }
    }
}

fn summary(comparison: &Comparison, names: &[&str]) -> Markup {
    html! {
        section {
            h2 { "Summary" }
            div.scroll tabindex="0" role="region" aria-label="Summary" {
                table {
                    thead { tr { th {} @for name in names { th.number { (name) } } } }
                    tbody { @for row in comparison.summary() { (summary_row(&row)) } }
                }
            }
            p.soft {
                "Differences and numbers of photos are relative to " (names[0]) ". Accuracies are in per cent, and their \
                differences in percentage points. Differences in bold have an interval that excludes zero."
                @if !comparison.timings.is_empty() {
                    " Times are medians per photo, from pixels to logits, and their ratios to those of " (names[0]) "."
                }
            }
        }
    }
}

fn summary_row(row: &SummaryRow) -> Markup {
    html! {
        tr {
            th scope="row" { (row.title) }
            @for cell in &row.cells {
                td.number { @if cell.excludes_zero { strong { (cell.text) } } @else { (cell.text) } }
            }
        }
    }
}

/// Recall of each class, the largest differences to the first checkpoint first. Classes without a difference are folded.
fn classes(comparison: &Comparison, names: &[&str]) -> Markup {
    let mut classes: Vec<_> = comparison.classes.iter().collect();
    classes.sort_by(|a, b| largest_difference(b).total_cmp(&largest_difference(a)));
    let (different, equal) = classes.split_at(classes.partition_point(|class| largest_difference(class) > 0.0));
    html! {
        section {
            h2 { "Recall of the classes" }
            @if different.is_empty() {
                p { "All classes have the same recall." }
            } @else {
                (class_table(different, names))
            }
            @if !equal.is_empty() {
                details {
                    summary { (counted(equal.len(), "class", "classes")) " with the same recall" }
                    (class_table(equal, names))
                }
            }
        }
    }
}

fn largest_difference(class: &ClassRecall) -> f64 {
    class.recall.iter().map(|recall| (recall - class.recall[0]).abs()).fold(0.0, f64::max)
}

fn class_table(classes: &[&ClassRecall], names: &[&str]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Recall of the classes" {
            table {
                thead {
                    tr {
                        th { "class" }
                        th.number { "photos" }
                        @for name in names { th.number { (name) } }
                        @for name in &names[1..] { th.number { "difference of " (name) } }
                    }
                }
                tbody {
                    @for class in classes {
                        tr {
                            th scope="row" title=(class.name.class) { (class.name.label) }
                            td.number { (class.support) }
                            @for recall in &class.recall {
                                td.number { meter min="0" max="1" value=(recall) {} " " (percent(*recall)) }
                            }
                            @for recall in &class.recall[1..] { (difference_cell(recall - class.recall[0])) }
                        }
                    }
                }
            }
        }
    }
}

fn difference_cell(difference: f64) -> Markup {
    let kind = match difference {
        0.0 => "",
        _ if difference > 0.0 => "gain",
        _ => "loss",
    };
    html! { td.number.(kind) { (with_sign(100.0 * difference, 2)) } }
}

fn disagreements(comparison: &Comparison, names: &[&str], with_photos: bool) -> Markup {
    let all = &comparison.disagreements;
    let shown = &all[..all.len().min(MAX_DISAGREEMENTS)];
    let photo = |disagreement: &Disagreement| {
        with_photos.then(|| square_centre(&disagreement.file, PHOTO_SIDE)).flatten().map(|image| image_to_jpeg(&image))
    };
    let photos: Vec<_> = shown.par_iter().map(photo).collect();
    html! {
        section {
            h2 { "Disagreements" }
            p {
                "The checkpoints classify " (counted(all.len(), "photo", "photos")) " differently. "
                @if shown.len() < all.len() {
                    "The page shows " (shown.len()) " of them; the output of " code { "--json" } " contains all. "
                }
                @if !all.is_empty() { "Those with the largest difference in the probability of the correct class are first." }
            }
            ul.cards {
                @for (disagreement, photo) in shown.iter().zip(&photos) {
                    li { (card(comparison, disagreement, names, photo.as_deref())) }
                }
            }
        }
    }
}

fn card(comparison: &Comparison, disagreement: &Disagreement, names: &[&str], photo: Option<&[u8]>) -> Markup {
    html! {
        @if let Some(jpeg) = photo {
            img src=(data_uri("image/jpeg", jpeg)) width=(PHOTO_SIDE) height=(PHOTO_SIDE)
                alt=(format_args!("Photo of {}", disagreement.name.label));
        }
        div {
            p { strong.name { (disagreement.name.label) } }
            dl { @for (name, prediction) in names.iter().zip(&disagreement.predictions) { (answer(name, prediction)) } }
            p.file { (comparison.relative_file(disagreement)) }
        }
    }
}

fn answer(name: &str, prediction: &PredictedClass) -> Markup {
    let (class, mark) = if prediction.correct { ("right", "correct") } else { ("wrong", "wrong") };
    let symbol = if prediction.correct { "✓" } else { "✗" };
    html! {
        dt { (name) }
        dd.(class) {
            span role="img" aria-label=(mark) { (symbol) } " " (prediction.name.label) " "
            (percent(prediction.probability.into()))
        }
    }
}

fn skipped(comparison: &Comparison) -> Markup {
    html! {
        @if !comparison.skipped_files.is_empty() {
            section {
                h2 { "Skipped files" }
                ul { @for skipped in &comparison.skipped_files { li { code { (skipped.location) } ": " (skipped.reason) } } }
            }
        }
    }
}
