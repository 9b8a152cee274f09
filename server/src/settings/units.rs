//! Parsers for sizes and durations with units, which also check their range.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Maximum duration: longer ones are mistakes, and could overflow an `Instant`.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Minimum time limit, below which nothing could ever succeed.
const MIN_TIME_LIMIT: Duration = Duration::from_millis(1);

/// Minimum interval, below which the repeated task would run all the time.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// A positive number of bytes, such as `20MB`, `512MiB` or `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteCount(usize);

impl ByteCount {
    pub fn get(self) -> usize {
        self.0
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: bytesize::ByteSize = text.parse()?;
        match usize::try_from(bytes.as_u64()) {
            Ok(0) => Err("must be greater than zero".to_owned()),
            Ok(bytes) => Ok(ByteCount(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Parses a duration, which may be zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > MAX_DURATION => Err("must be at most 365d".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Parses a time limit, which must not be zero.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        limit if limit < MIN_TIME_LIMIT => Err(format!("must be at least {MIN_TIME_LIMIT:?}")),
        limit => Ok(limit),
    }
}

/// Parses the interval of a repeated task; zero disables the task.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if !interval.is_zero() && interval < MIN_INTERVAL => {
            Err(format!("must be at least {MIN_INTERVAL:?}, or 0s to disable"))
        }
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_sizes_of_zero() {
        assert_eq!("512MiB".parse(), Ok(ByteCount(512 << 20)));
        for text in ["0", "0MB"] {
            assert!(text.parse::<ByteCount>().unwrap_err().contains("greater than zero"), "{text}");
        }
    }

    #[test]
    fn checks_the_range_of_durations() {
        let millis = |millis| Ok(Duration::from_millis(millis));
        assert_eq!((duration("0s"), time_limit("1ms"), interval("10ms")), (millis(0), millis(1), millis(10)));
        assert_eq!((interval("0s"), duration("365d")), (millis(0), Ok(MAX_DURATION)));
        for (result, message) in [
            (duration("366d"), "at most 365d"),
            (time_limit("366d"), "at most 365d"),
            (time_limit("0s"), "at least 1ms"),
            (time_limit("999us"), "at least 1ms"),
            (interval("9ms"), "at least 10ms"),
            (duration("soon"), "number"),
        ] {
            assert!(result.clone().unwrap_err().contains(message), "{result:?}");
        }
    }
}
