//! Values of settings that have rules of their own.

use std::num::NonZero;
use std::path::PathBuf;

/// Engines of a model on one device.
const MOST_REPLICAS: usize = 64;

/// An empty one would be known to everybody.
pub fn secret(text: &str) -> Result<String, String> {
    match text {
        _ if text.trim().is_empty() => Err("it is empty".to_owned()),
        _ if text.trim() != text => Err("no header holds spaces at the ends".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// As browsers name it.
pub fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |rest: &str| !rest.is_empty() && !rest.contains(['/', ' ', '?', '#', '@']);
    if text == "*" || rest.is_some_and(is_host) {
        Ok(text.to_owned())
    } else {
        Err("expected scheme and host, such as https://example.org, or *".to_owned())
    }
}

pub fn replicas(text: &str) -> Result<NonZero<usize>, String> {
    let replicas: NonZero<usize> = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if replicas.get() > MOST_REPLICAS { Err(format!("at most {MOST_REPLICAS}")) } else { Ok(replicas) }
}

pub fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("expected NAME=PATH, such as birds=checkpoints/birds.safetensors".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_hold_an_equals_sign() {
        assert_eq!(named_path("a=b=c"), Ok(("a".to_owned(), PathBuf::from("b=c"))));
    }

    #[test]
    fn name_and_path_are_both_needed() {
        for text in ["birds", "=birds.safetensors", "birds="] {
            assert!(named_path(text).unwrap_err().contains("NAME=PATH"), "{text}");
        }
    }
}
