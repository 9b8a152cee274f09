//! Misclassified photos: the most confused pairs of classes, and the most confident errors.

use super::display_names::DisplayNames;
use crate::evaluation::{ConfusedPair, ConfusionMatrix, PhotoPrediction};
use crate::html_page::data_uri;
use crate::html_page::numbers::{counted, percent};
use crate::report::evaluation_report::EvaluationReport;
use crate::report::photos::{ErrorPhoto, PairPhotos};
use maud::{Markup, html};

/// Numbers of pairs and of errors in the tables without photos.
const PAIRS: usize = 12;
const ERRORS: usize = 24;

/// Returns the pairs and the errors with their photos, or as tables if there are no photos.
pub fn photos(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let confusion = &report.details.confusion;
    let totals: Vec<u32> = confusion.rows().map(|row| row.iter().sum()).collect();
    html! {
        @match &report.photos {
            _ if report.details.predictions.iter().all(PhotoPrediction::is_correct) => {
                p { "All photos were classified correctly." }
            }
            None => {
                (pair_table(confusion, &totals, names))
                (error_table(report, names))
            }
            Some(photos) => {
                h3 { "Most confused pairs of classes" }
                @for pair in &photos.pairs { (pair_photos(report, pair, totals[pair.pair.actual], names)) }
                h3 { "Most confident errors" }
                p {
                    "Each photo is shown as the network sees it, and with the class activation maps of the predicted and of the "
                    "actual class: orange parts contribute to the logit of the class."
                }
                div class="errors" {
                    @for error in &photos.errors { (error_photo(report, error, names)) }
                }
            }
        }
    }
}

fn pair_table(confusion: &ConfusionMatrix, totals: &[u32], names: &DisplayNames) -> Markup {
    let row = |pair: ConfusedPair| {
        let (actual, predicted) = (html! { (names.full(pair.actual)) }, html! { (names.full(pair.predicted)) });
        let (photos, share) = (html! { (pair.count) }, html! { (percent(share(&pair, totals[pair.actual]))) });
        [actual, predicted, photos, share]
    };
    let columns =
        [("Actual", "name"), ("Predicted", "name"), ("Photos", "number"), ("Share of the actual class", "number")];
    table("Most confused pairs of classes", columns, confusion.most_confused(PAIRS).into_iter().map(row))
}

fn error_table(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    let row = |prediction: &PhotoPrediction| {
        let classes = [prediction.class, prediction.predicted()].map(|class| html! { (names.full(class)) });
        let [actual, predicted] = classes;
        [file_name(report, prediction), actual, predicted, html! { (percent(prediction.confidence().into())) }]
    };
    let columns = [("Photo", ""), ("Actual", "name"), ("Predicted", "name"), ("Confidence", "number")];
    table("Most confident errors", columns, report.details.most_confident_errors(ERRORS).into_iter().map(row))
}

/// Returns a table with columns of these headings and CSS classes. The first cell of a row is its heading.
fn table(title: &str, columns: [(&str, &str); 4], rows: impl Iterator<Item = [Markup; 4]>) -> Markup {
    let classes = columns.map(|(_, class)| (!class.is_empty()).then_some(class));
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(title) {
            table class="sortable" {
                caption { (title) }
                thead {
                    tr {
                        @for (heading, class) in columns {
                            th scope="col" class=[(class == "number").then_some(class)] { (heading) }
                        }
                    }
                }
                tbody {
                    @for [first, others @ ..] in rows {
                        tr {
                            th scope="row" class=[classes[0]] { (first) }
                            @for (cell, class) in others.iter().zip(&classes[1..]) { td class=[class] { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the fraction of the photos of the actual class.
fn share(pair: &ConfusedPair, total: u32) -> f64 {
    f64::from(pair.count) / f64::from(total)
}

fn pair_photos(
    report: &EvaluationReport,
    PairPhotos { pair, photos }: &PairPhotos,
    total: u32,
    names: &DisplayNames,
) -> Markup {
    html! {
        section class="pair" {
            h4 { span class="name" { (names.medium(pair.actual)) } " classified as " span class="name" { (names.medium(pair.predicted)) } }
            p class="soft" { (pair.count) " of " (counted(total as usize, "photo", "photos")) " (" (percent(share(pair, total))) ")" }
            div class="photos" {
                @for (prediction, photo) in photos {
                    figure {
                        (image(photo, &format!("Photo of {}", names.medium(prediction.class))))
                        figcaption {
                            (percent(f64::from(prediction.confidence()))) " "
                            (file_name(report, prediction))
                        }
                    }
                }
            }
        }
    }
}

fn error_photo(report: &EvaluationReport, error: &ErrorPhoto, names: &DisplayNames) -> Markup {
    let prediction = &error.prediction;
    let (actual, predicted) = (names.medium(prediction.class), names.medium(prediction.predicted()));
    let images = [
        (&error.photo, format!("Photo of {actual}"), "photo"),
        (&error.predicted_map, format!("Activation map of {predicted}"), "predicted class"),
        (&error.class_map, format!("Activation map of {actual}"), "actual class"),
    ];
    html! {
        figure class="error-photo" {
            div class="maps" {
                @for (file, alternative, label) in &images {
                    div { (image(file, alternative)) span class="soft" { (label) } }
                }
            }
            figcaption {
                div { "predicted " b class="name" { (predicted) } ", " (percent(f64::from(prediction.confidence()))) }
                div {
                    "actual " b class="name" { (actual) } ", " (percent(f64::from(prediction.class_probability)))
                    ", rank " (prediction.rank + 1)
                }
                (file_name(report, prediction))
            }
        }
    }
}

fn image(file: &[u8], alternative: &str) -> Markup {
    html! { img src=(data_uri("image/jpeg", file)) alt=(alternative) width="160" height="160" decoding="async"; }
}

/// Returns the location of a photo, relative to the folder of the photos.
fn file_name(report: &EvaluationReport, prediction: &PhotoPrediction) -> Markup {
    let location = report.location(prediction).to_string();
    let separators = ['/', '\\'];
    let folder = report.data.trim_end_matches(separators);
    // A folder with a similar name is not the folder of the photos.
    let relative = location.strip_prefix(folder).filter(|rest| rest.starts_with(separators) && !folder.is_empty());
    let name = relative.map_or(location.as_str(), |rest| rest.trim_start_matches(separators));
    html! { span class="file" { (name) } }
}
