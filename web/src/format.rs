//! Formats numbers and errors as text for the visitor.

use model::prediction::FailureDetail;
use worker::message::UNSUPPORTED_FORMAT;

/// Explains a failure to the visitor. Common error codes have messages that also say what to do.
pub fn failure_message(failure: &FailureDetail) -> String {
    match failure.code.as_str() {
        UNSUPPORTED_FORMAT => {
            "This file is not a photo, or its format is not supported. Please try a JPEG, PNG, WebP, GIF or BMP file."
                .into()
        }
        "undecodable" => format!("This photo is damaged ({}). Please choose another photo.", failure.message),
        "too_large" => format!("This photo is too large: {}. Please choose a smaller one.", failure.message),
        "nothing_to_classify" => "This file is empty. Please choose another photo.".into(),
        _ => sentence(&failure.message),
    }
}

/// Capitalises the first letter of `text`, and appends a full stop unless it ends with a punctuation mark.
pub fn sentence(text: &str) -> String {
    let mut characters = text.trim().chars();
    let Some(first) = characters.next() else { return String::new() };
    let full_stop = if text.trim_end().ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{full_stop}", first.to_uppercase(), characters.as_str())
}

/// Formats a number of bytes in megabytes, without the unit: `25.7` for 25,700,000 bytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// Formats a duration with one decimal below 10 ms, and in whole milliseconds from there: `9.5 ms`, `142 ms`.
pub fn milliseconds(ms: f64) -> String {
    if ms < 9.95 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Formats a probability as a whole percentage. Probabilities that would be rounded to 0 % or 100 % without being
/// exactly 0 or 1 are written as `<1 %` and `>99 %`.
pub fn percent(probability: f32) -> String {
    match probability * 100.0 {
        p if p > 0.0 && p < 0.5 => "<1 %".into(),
        p if p > 99.5 && p < 100.0 => ">99 %".into(),
        p => format!("{p:.0} %"),
    }
}
