//! Durations as text, with at most two units.

use std::time::Duration;

/// Returns a duration such as `2 h 14 min`, `12 min`, `1 min 30 s` or `8 s`.
pub fn duration_text(duration: Duration) -> String {
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
pub fn short_duration_text(duration: Duration) -> String {
    duration_text(duration).replace("min", "m").replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, long, short) in [
            (0.4, "0 s", "0s"),
            (59.6, "1 min 0 s", "1m0s"),
            (90.0, "1 min 30 s", "1m30s"),
            (599.7, "10 min", "10m"),
            (3599.0, "59 min", "59m"),
            (8060.0, "2 h 14 min", "2h14m"),
            (187_200.0, "2 d 4 h", "2d4h"),
        ] {
            let duration = Duration::from_secs_f64(seconds);
            assert_eq!((&*duration_text(duration), &*short_duration_text(duration)), (long, short));
        }
    }
}
