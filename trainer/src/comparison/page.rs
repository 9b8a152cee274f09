//! The comparison as one self-contained HTML page.

use super::disagreement::{Disagreement, PredictedClass};
use super::interval_chart::interval_chart;
use super::result::{ClassRecall, Comparison};
use super::summary::{SummaryRow, percent, with_sign};
use crate::command_line;
use crate::html_page::{HtmlPage, data_uri};
use maud::{Markup, html};

/// Maximum number of disagreements on the page.
pub const MAX_DISAGREEMENTS: usize = 100;

/// Renders the page. `thumbnails` are JPEG files of the first disagreements, or `None` to leave them out.
pub fn render(comparison: &Comparison, thumbnails: Option<&[Option<Vec<u8>>]>) -> String {
    let names: Vec<_> = comparison.checkpoints.iter().map(|checkpoint| checkpoint.name.as_str()).collect();
    let title = format!("Comparison of {}", names.join(", "));
    let main = html! {
        (accuracy(comparison, &names))
        (summary(comparison, &names))
        (classes(comparison, &names))
        (disagreements(comparison, &names, thumbnails))
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
            p.note { "Version " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

fn introduction(comparison: &Comparison) -> Markup {
    let Comparison { data, device, precision, photos, skipped, .. } = comparison;
    html! {
        (photos) " photos of " code { (data) } ", classified on device " (device) " in " (precision) "; "
        (skipped.len()) " files could not be decoded."
    }
}

fn accuracy(comparison: &Comparison, names: &[&str]) -> Markup {
    let top1 = comparison.checkpoints.iter().map(|checkpoint| checkpoint.metrics.top1);
    let rows: Vec<_> = names.iter().copied().zip(top1).collect();
    html! {
        section {
            h2 { "Top-1" }
            (interval_chart("Top-1 with confidence intervals", &rows))
            p.note {
                "Lines are " (format!("{:.0} %", 100.0 * comparison.confidence_level)) " confidence intervals (percentiles of "
                (comparison.resamples) " bootstrap resamples of the photos). All checkpoints classify the same photos, so their \
                differences are more certain than these intervals suggest: see the intervals of the differences below."
            }
        }
    }
}

fn summary(comparison: &Comparison, names: &[&str]) -> Markup {
    html! {
        section {
            h2 { "Summary" }
            div.wide {
                table {
                    thead { tr { th {} @for name in names { th.number { (name) } } } }
                    tbody { @for row in comparison.summary() { (summary_row(&row)) } }
                }
            }
            p.note {
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
                    summary { (count(equal.len(), "class", "classes")) " with the same recall" }
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
        div.wide {
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
                            td.number { (class.photos) }
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

fn disagreements(comparison: &Comparison, names: &[&str], thumbnails: Option<&[Option<Vec<u8>>]>) -> Markup {
    let all = &comparison.disagreements;
    let shown = &all[..all.len().min(MAX_DISAGREEMENTS)];
    html! {
        section {
            h2 { "Disagreements" }
            p {
                "The checkpoints classify " (count(all.len(), "photo", "photos")) " differently. "
                @if shown.len() < all.len() {
                    "The page shows " (shown.len()) " of them; the output of " code { "--json" } " contains all. "
                }
                @if !all.is_empty() { "Those with the largest difference in the probability of the correct class are first." }
            }
            ul.photos {
                @for (index, disagreement) in shown.iter().enumerate() {
                    @let thumbnail = thumbnails.and_then(|thumbnails| thumbnails[index].as_deref());
                    li { (card(comparison, disagreement, names, thumbnail)) }
                }
            }
        }
    }
}

fn card(comparison: &Comparison, disagreement: &Disagreement, names: &[&str], thumbnail: Option<&[u8]>) -> Markup {
    html! {
        @if let Some(jpeg) = thumbnail {
            img src=(data_uri("image/jpeg", jpeg)) width="128" height="128"
                alt=(format_args!("Photo of {}", disagreement.name.label));
        }
        div {
            p.class { (disagreement.name.label) }
            dl { @for (name, prediction) in names.iter().zip(&disagreement.predictions) { (answer(name, prediction)) } }
            p.place { (comparison.relative_place(disagreement)) }
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
        @if !comparison.skipped.is_empty() {
            section {
                h2 { "Skipped files" }
                ul { @for skipped in &comparison.skipped { li { code { (skipped.location) } ": " (skipped.reason) } } }
            }
        }
    }
}

fn count(count: usize, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}
