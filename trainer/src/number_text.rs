//! Numbers as text, for the terminal and, with non-breaking spaces, for HTML pages.

use indicatif::HumanCount;
use std::time::Duration;

/// Returns a fraction in per cent, such as `84.3 %`.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}

/// Returns a number with its sign, which is omitted if the number is rounded to zero.
pub fn with_sign(value: f64, decimals: usize) -> String {
    let text = format!("{value:+.decimals$}");
    let is_zero = !text.contains(|character| matches!(character, '1'..='9'));
    if is_zero { text[1..].to_owned() } else { text }
}

/// Returns a count with separators, such as `50,000`.
pub fn count(value: usize) -> String {
    HumanCount(value as u64).to_string()
}

/// Returns a count and a noun in the singular or the plural, such as `1 photo` or `2 photos`.
pub fn counted(value: usize, singular: &str, plural: &str) -> String {
    format!("{} {}", count(value), if value == 1 { singular } else { plural })
}

/// Returns a duration in at most two units, such as `2 h 14 min`, `12 min`, `1 min 30 s` or `8 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..600 => format!("{minutes} min {} s", seconds % 60),
        600..3600 => format!("{minutes} min"),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Returns a duration such as `2h14m`.
pub fn short_duration(duration: Duration) -> String {
    self::duration(duration).replace("min", "m").replace(' ', "")
}

/// Returns a measured duration like [`duration`], but with a decimal below ten seconds, such as `3.2 s`.
pub fn measured_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 { format!("{seconds:.1} s") } else { self::duration(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, long, short, measured) in [
            (0.4, "0 s", "0s", "0.4 s"),
            (9.96, "10 s", "10s", "10 s"),
            (59.6, "1 min 0 s", "1m0s", "1 min 0 s"),
            (90.0, "1 min 30 s", "1m30s", "1 min 30 s"),
            (599.7, "10 min", "10m", "10 min"),
            (3599.0, "59 min", "59m", "59 min"),
            (8060.0, "2 h 14 min", "2h14m", "2 h 14 min"),
            (187_200.0, "2 d 4 h", "2d4h", "2 d 4 h"),
        ] {
            let value = Duration::from_secs_f64(seconds);
            let texts = (duration(value), short_duration(value), measured_duration(value));
            assert_eq!((&*texts.0, &*texts.1, &*texts.2), (long, short, measured));
        }
    }

    #[test]
    fn counts_have_separators_and_nouns_a_number() {
        assert_eq!(
            [0, 1, 50_000].map(|value| counted(value, "photo", "photos")),
            ["0 photos", "1 photo", "50,000 photos"]
        );
    }

    #[test]
    fn signs_are_omitted_for_zero() {
        assert_eq!(
            [0.004, -0.004, -0.0, 0.006, -12.345].map(|value| with_sign(value, 2)),
            ["0.00", "0.00", "0.00", "+0.01", "-12.35"]
        );
    }
}
