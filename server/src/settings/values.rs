//! Parsers for settings with special rules.

use checkpoints::CheckpointSource;
use std::num::NonZero;
use std::path::PathBuf;

/// Maximum number of engines per model and device.
const MAX_REPLICAS: usize = 64;

/// Parses an API key or token. An empty one would grant access to everyone.
pub fn secret(text: &str) -> Result<String, String> {
    match text {
        _ if text.trim().is_empty() => Err("must not be empty".to_owned()),
        _ if text.trim() != text => {
            Err("must not start or end with a space, which HTTP headers do not preserve".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses an origin as browsers send it in the `Origin` header, or `*`.
pub fn origin(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host = |rest: &str| !rest.is_empty() && !rest.contains(['/', ' ', '?', '#', '@']);
    if text == "*" || rest.is_some_and(is_host) {
        Ok(text.to_owned())
    } else {
        Err("expected a scheme and host, such as https://example.org, or *".to_owned())
    }
}

/// Parses a number of engines per model and device.
pub fn replicas(text: &str) -> Result<NonZero<usize>, String> {
    let replicas: NonZero<usize> = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if replicas.get() > MAX_REPLICAS { Err(format!("must be at most {MAX_REPLICAS}")) } else { Ok(replicas) }
}

/// Parses `NAME=PATH`, where the path may be the name of a bundled checkpoint.
pub fn named_checkpoint(text: &str) -> Result<(String, CheckpointSource), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path).into())),
        _ => Err("expected NAME=PATH, such as birds=models/birds.safetensors".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_may_contain_an_equals_sign() {
        assert_eq!(named_checkpoint("a=b=c"), Ok(("a".to_owned(), CheckpointSource::File("b=c".into()))));
    }

    #[test]
    fn requires_name_and_path() {
        for text in ["birds", "=birds.safetensors", "birds="] {
            assert!(named_checkpoint(text).unwrap_err().contains("NAME=PATH"), "{text}");
        }
    }
}
