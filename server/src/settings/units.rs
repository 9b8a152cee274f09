//! Sizes and times as people write them, but for those that make no sense.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Longer ones are mistakes, and clocks do not count for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Less is no time to do anything in.
const SHORTEST_LIMIT: Duration = Duration::from_millis(1);

/// What is done oftener is nothing but that.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// A number of bytes, at least one: `20MB`, `512MiB`, `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(usize);

impl Bytes {
    pub fn get(self) -> usize {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: bytesize::ByteSize = text.parse()?;
        match usize::try_from(bytes.as_u64()) {
            Ok(0) => Err("with no bytes nothing could ever be taken".to_owned()),
            Ok(bytes) => Ok(Bytes(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How long to wait; not at all is good too.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err("at most a year (365d) is expected".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// How long something may take.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        limit if limit < SHORTEST_LIMIT => Err(format!("at least {SHORTEST_LIMIT:?} is expected")),
        limit => Ok(limit),
    }
}

/// How often something is done; 0s is never.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if !interval.is_zero() && interval < SHORTEST_INTERVAL => {
            Err(format!("at least {SHORTEST_INTERVAL:?} is expected, or 0s for never"))
        }
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_at_least_a_byte() {
        assert_eq!("512MiB".parse(), Ok(Bytes(512 << 20)));
        for text in ["0", "0MB"] {
            assert!(text.parse::<Bytes>().unwrap_err().contains("no bytes"), "{text}");
        }
    }

    #[test]
    fn times_have_limits_but_where_none_is_meant() {
        let millis = |millis| Ok(Duration::from_millis(millis));
        assert_eq!((duration("0s"), time_limit("1ms"), interval("10ms")), (millis(0), millis(1), millis(10)));
        assert_eq!((interval("0s"), duration("365d")), (millis(0), Ok(LONGEST)));
        for (refused, words) in [
            (duration("366d"), "at most a year"),
            (time_limit("366d"), "at most a year"),
            (time_limit("0s"), "at least 1ms"),
            (time_limit("999us"), "at least 1ms"),
            (interval("9ms"), "at least 10ms"),
            (duration("soon"), "number"),
        ] {
            assert!(refused.clone().unwrap_err().contains(words), "{refused:?}");
        }
    }
}
