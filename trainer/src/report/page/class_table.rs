//! The table of classes: precision, recall and F1 of each, and their averages.

use super::display_names::DisplayNames;
use crate::evaluation::{ClassFigures, ConfusedPair, ConfusionMatrix};
use crate::html_page::numbers::{MISSING, count, percent};
use crate::report::evaluation_report::EvaluationReport;
use maud::{Markup, html};

/// Average figures of all classes.
struct Average {
    name: &'static str,
    precision: f64,
    recall: f64,
    f1: f64,
}

/// Returns the table, in the order of the classes.
pub fn table(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let figures = report.details.confusion.class_figures();
    let confused = most_frequent_errors(&report.details.confusion);
    html! {
        div class="scroll tall" tabindex="0" role="region" aria-label="Table of the classes" {
            table class="sortable filtered" {
                thead {
                    tr {
                        th scope="col" { "Class" }
                        @for heading in ["Precision", "Recall", "F1", "Photos"] {
                            th scope="col" class="number" { (heading) }
                        }
                        th scope="col" { "Most often confused with" }
                    }
                }
                tbody {
                    @for (class, (figures, confused)) in figures.iter().zip(&confused).enumerate() {
                        tr {
                            th scope="row" { (class_name(report, names, class)) }
                            (rates(
                                defined(figures.precision, figures.predicted),
                                defined(figures.recall, figures.support),
                                defined(figures.f1, figures.support + figures.predicted),
                            ))
                            td class="number" { (count(figures.support as usize)) }
                            (confused_cell(confused.as_ref(), names))
                        }
                    }
                }
                (totals(&figures))
            }
        }
    }
}

/// Returns the name of a class, followed by its identifier if that differs.
fn class_name(report: &EvaluationReport, names: &DisplayNames, class: usize) -> Markup {
    let (name, identifier) = (names.full(class), report.classes[class].trim());
    let shown = names.medium(class);
    html! {
        span class="name" title=[(shown != name).then_some(name)] { (shown) }
        @if !identifier.is_empty() && !name.contains(identifier) { " " span class="name soft" { (identifier) } }
    }
}

fn rates(precision: f64, recall: f64, f1: f64) -> Markup {
    html! {
        @for rate in [precision, recall, f1] { td class="number" { (percent(rate)) } }
    }
}

/// Returns a figure, or NaN if the number of photos on which it is based is zero.
fn defined(figure: f64, photos: u32) -> f64 {
    if photos > 0 { figure } else { f64::NAN }
}

fn confused_cell(confused: Option<&ConfusedPair>, names: &DisplayNames) -> Markup {
    html! {
        @match confused {
            Some(pair) => {
                td { span class="name" { (names.medium(pair.predicted)) } " (" (count(pair.count as usize)) ")" }
            }
            None => { td { (MISSING) } }
        }
    }
}

fn totals(figures: &[ClassFigures]) -> Markup {
    let photos: u32 = figures.iter().map(|figures| figures.support).sum();
    let weight = |figures: &ClassFigures| f64::from(figures.support) / f64::from(photos.max(1));
    let with_photos = figures.iter().filter(|figures| figures.support > 0).count();
    // Classes without photos have no recall.
    let equal = |figures: &ClassFigures| if figures.support > 0 { 1.0 / with_photos as f64 } else { 0.0 };
    let averages = [average("Macro average", figures, equal), average("Weighted average", figures, weight)];
    html! {
        tfoot {
            @for Average { name, precision, recall, f1 } in averages {
                tr {
                    th scope="row" { (name) }
                    (rates(precision, recall, f1))
                    td class="number" { (count(photos as usize)) }
                    td {}
                }
            }
        }
    }
}

fn average(name: &'static str, figures: &[ClassFigures], weight: impl Fn(&ClassFigures) -> f64) -> Average {
    let mean =
        |figure: fn(&ClassFigures) -> f64| -> f64 { figures.iter().map(|class| weight(class) * figure(class)).sum() };
    Average {
        name,
        precision: mean(|class| class.precision),
        recall: mean(|class| class.recall),
        f1: mean(|class| class.f1),
    }
}

/// Returns for each class the other class that most of its photos were classified as.
fn most_frequent_errors(confusion: &ConfusionMatrix) -> Vec<Option<ConfusedPair>> {
    let most_frequent = |(actual, row): (usize, &[u32])| {
        let errors = row.iter().enumerate().filter(|&(predicted, &count)| predicted != actual && count > 0);
        // Of equal counts, the first class is chosen.
        let (predicted, &count) = errors.rev().max_by_key(|(_, count)| **count)?;
        Some(ConfusedPair { actual, predicted, count })
    };
    confusion.rows().enumerate().map(most_frequent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion() -> ConfusionMatrix {
        let mut confusion = ConfusionMatrix::new(3);
        for (actual, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2), (1, 1), (1, 1), (1, 0)] {
            confusion.add(actual, predicted);
        }
        confusion
    }

    /// Expected averages: `sklearn.metrics.classification_report([0]*5 + [1]*3, [0,0,0,1,2,1,1,0], labels=[0,1],
    /// zero_division=0, output_dict=True)`. Class 2 has no photos.
    #[test]
    fn averages_equal_those_of_scikit_learn() {
        let html = totals(&confusion().class_figures()).into_string().replace('\u{a0}', " ");
        let cells: Vec<_> =
            html.split("<td class=\"number\">").skip(1).map(|cell| cell.split('<').next().unwrap()).collect();
        assert_eq!(cells, ["70.8 %", "63.3 %", "66.7 %", "8", "71.9 %", "62.5 %", "66.7 %", "8"]);
    }

    #[test]
    fn first_of_equally_frequent_errors_is_chosen() {
        let predicted: Vec<_> = most_frequent_errors(&confusion())
            .into_iter()
            .map(|pair| pair.map(|pair| (pair.predicted, pair.count)))
            .collect();
        assert_eq!(predicted, [Some((1, 1)), Some((0, 1)), None]);
    }
}
