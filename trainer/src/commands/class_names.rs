//! Files with one name per class.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// Reads one name per line, or a JSON list of strings.
///
/// # Errors
/// Returns an error if the file cannot be parsed, or if the number of names is not `classes`.
pub fn read(path: &Path, classes: usize) -> Result<Vec<String>> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{file}"))?;
    let names = parse(&text).with_context(|| format!("{file}"))?;
    if names.len() != classes {
        bail!("{file} has {} names, but the network has {classes} classes", names.len());
    }
    Ok(names)
}

fn parse(text: &str) -> Result<Vec<String>> {
    // Some editors write a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('[') || text.starts_with('{') {
        return serde_json::from_str(text).context("expected a JSON list of names, or one name per line");
    }
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(index) => bail!("line {} is empty, expected the name of class {index}", index + 1),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_and_json_lists() {
        for text in [
            "tench\ngreat white shark\n",
            "\u{feff}tench\r\n great white shark \r\n\r\n",
            r#"["tench", "great white shark"]"#,
        ] {
            assert_eq!(parse(text).unwrap(), ["tench", "great white shark"], "{text:?}");
        }
    }

    #[test]
    fn rejects_empty_lines_and_other_json() {
        assert!(parse("tench\n\nshark").unwrap_err().to_string().contains("line 2"));
        for text in ["[1, 2]", r#"{"0": "tench"}"#, "[\"tench\""] {
            assert!(format!("{:#}", parse(text).unwrap_err()).contains("JSON list"), "{text}");
        }
    }
}
