//! Numbers as HTML pages show them: without line breaks between a number and its unit, and with a dash for missing numbers
//! (NaN).

pub use crate::number_text::count;

use crate::number_text;
use std::time::Duration;

/// Text in place of a number that is missing.
pub const MISSING: &str = "–";

const NO_BREAK_SPACE: &str = "\u{a0}";

/// Returns a fraction in per cent, such as "84.3 %".
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() { unbroken(&number_text::percent(fraction)) } else { MISSING.to_owned() }
}

/// Returns a number with this many decimals.
pub fn decimals(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { MISSING.to_owned() }
}

/// Returns a count and a noun in the singular or the plural, such as "1 photo" or "2 photos".
pub fn counted(value: usize, singular: &str, plural: &str) -> String {
    unbroken(&number_text::counted(value, singular, plural))
}

/// Returns a duration in its two largest units, such as "1 h 12 min" or "3.2 s".
pub fn duration(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds);
    duration.map_or_else(|_| MISSING.to_owned(), |duration| unbroken(&number_text::measured_duration(duration)))
}

fn unbroken(text: &str) -> String {
    text.replace(' ', NO_BREAK_SPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_separated_from_their_units() {
        let texts = [percent(0.8434), counted(50_000, "photo", "photos"), duration(4320.0)];
        assert_eq!(texts, ["84.3\u{a0}%", "50,000\u{a0}photos", "1\u{a0}h\u{a0}12\u{a0}min"]);
    }

    #[test]
    fn missing_numbers_are_dashes() {
        assert_eq!([percent(f64::NAN), decimals(f64::INFINITY, 2), duration(f64::NAN)], [MISSING; 3]);
    }
}
