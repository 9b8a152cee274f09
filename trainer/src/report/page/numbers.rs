//! Numbers as the page shows them. Missing numbers (NaN) are shown as a dash.

use indicatif::HumanCount;

/// Text in place of a number that is missing.
pub const MISSING: &str = "–";

/// Separates a number from its unit without a line break.
const SPACE: char = '\u{a0}';

/// Returns a fraction in percent, such as "84.3 %".
pub fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1}{SPACE}%", 100.0 * fraction) } else { MISSING.to_owned() }
}

/// Returns a number with this many decimals.
pub fn decimals(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { MISSING.to_owned() }
}

/// Returns a count with separators, such as "50,000".
pub fn count(value: usize) -> String {
    HumanCount(value as u64).to_string()
}

/// Returns a count and a noun in the singular or the plural, such as "1 photo" or "2 photos".
pub fn counted(value: usize, singular: &str, plural: &str) -> String {
    format!("{}{SPACE}{}", count(value), if value == 1 { singular } else { plural })
}

/// Returns a duration in its two largest units, such as "1 h 12 min" or "3.2 s".
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return MISSING.to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}{SPACE}s");
    }
    let whole = seconds.round() as u64;
    let units = [(86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")];
    let Some((unit, name, smaller, smaller_name)) = units.into_iter().find(|(unit, ..)| whole >= *unit) else {
        return format!("{whole}{SPACE}s");
    };
    let (large, small) = (whole / unit, whole % unit / smaller);
    let rest = if small == 0 { String::new() } else { format!(" {small}{SPACE}{smaller_name}") };
    format!("{large}{SPACE}{name}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let expected = [
            (0.0, "0.0 s"),
            (9.96, "10 s"),
            (59.6, "1 min"),
            (61.0, "1 min 1 s"),
            (4320.0, "1 h 12 min"),
            (90_000.0, "1 d 1 h"),
            (f64::NAN, "–"),
        ];
        for (seconds, text) in expected {
            assert_eq!(duration(seconds).replace(SPACE, " "), text);
        }
    }

    #[test]
    fn missing_numbers_are_dashes() {
        assert_eq!([percent(f64::NAN), decimals(f64::INFINITY, 2)], [MISSING; 2]);
        assert_eq!(percent(0.8434).replace(SPACE, " "), "84.3 %");
        assert_eq!(counted(50_000, "photo", "photos").replace(SPACE, " "), "50,000 photos");
    }
}
