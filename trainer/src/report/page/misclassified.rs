//! Misclassified photos: the most confused pairs of classes, and the most confident errors.

use super::display_names::DisplayNames;
use super::numbers::{counted, percent};
use crate::evaluation::{ConfusedPair, ConfusionMatrix, PhotoPrediction};
use crate::html_page::data_uri;
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
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Most confused pairs of classes" {
            table class="sortable" {
                caption { "Most confused pairs of classes" }
                thead {
                    tr {
                        th scope="col" { "Actual" }
                        th scope="col" { "Predicted" }
                        th scope="col" class="number" { "Photos" }
                        th scope="col" class="number" { "Share of the actual class" }
                    }
                }
                tbody {
                    @for pair in confusion.most_confused(PAIRS) {
                        tr {
                            th scope="row" class="name" { (names.full(pair.actual)) }
                            td class="name" { (names.full(pair.predicted)) }
                            td class="number" { (pair.count) }
                            td class="number" { (percent(share(&pair, totals[pair.actual]))) }
                        }
                    }
                }
            }
        }
    }
}

fn error_table(report: &EvaluationReport, names: &DisplayNames) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Most confident errors" {
            table class="sortable" {
                caption { "Most confident errors" }
                thead {
                    tr {
                        th scope="col" { "Photo" }
                        th scope="col" { "Actual" }
                        th scope="col" { "Predicted" }
                        th scope="col" class="number" { "Confidence" }
                    }
                }
                tbody {
                    @for prediction in report.details.most_confident_errors(ERRORS) {
                        tr {
                            th scope="row" { (file_name(report, prediction)) }
                            td class="name" { (names.full(prediction.class)) }
                            td class="name" { (names.full(prediction.predicted())) }
                            td class="number" { (percent(f64::from(prediction.confidence()))) }
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
