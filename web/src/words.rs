//! Numbers and failures as a person reads them.

use model::prediction::FailureDetail;
use worker::message::UNSUPPORTED_FORMAT;

/// Why a photo has no answer: by the code where we know better words than the computer that failed.
pub fn explain(failure: &FailureDetail) -> String {
    match failure.code.as_str() {
        UNSUPPORTED_FORMAT => {
            "This is not a photo in a format that can be read here. JPEG, PNG, WebP, GIF and BMP always can.".into()
        }
        "undecodable" => format!("This photo is damaged and cannot be read: {}.", failure.message),
        "too_large" => format!("This photo is too large: {}.", failure.message),
        "nothing_to_classify" => "This file is empty.".into(),
        _ => sentence(&failure.message),
    }
}

/// `text` with a capital and an end.
pub fn sentence(text: &str) -> String {
    let mut characters = text.trim().chars();
    let Some(first) = characters.next() else { return String::new() };
    let end = if text.trim_end().ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), characters.as_str())
}

/// `25.7` of 25,700,000 bytes.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

pub fn milliseconds(ms: f64) -> String {
    if ms < 9.95 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Whole percents, but never a 0 or a 100 that is not one.
pub fn percent(probability: f32) -> String {
    match probability * 100.0 {
        p if p > 0.0 && p < 0.5 => "<1 %".into(),
        p if p > 99.5 && p < 100.0 => ">99 %".into(),
        p => format!("{p:.0} %"),
    }
}
