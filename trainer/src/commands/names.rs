//! Files with a name for each class.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// Reads one name a line, or a JSON list of texts; there must be as many as `classes`.
pub fn read(path: &Path, classes: usize) -> Result<Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown}"))?;
    let names = parse(&text).with_context(|| format!("{shown}"))?;
    if names.len() != classes {
        bail!("{shown} has {} names, but the network has {classes} classes", names.len());
    }
    Ok(names)
}

fn parse(text: &str) -> Result<Vec<String>> {
    // A byte order mark is what some editors leave in front.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('[') || text.starts_with('{') {
        return serde_json::from_str(text).context("a JSON list of names is wanted, or one name a line");
    }
    let names: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        Some(index) => bail!("line {} is empty, where the name of class {index} is wanted", index + 1),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_lists_are_read() {
        for text in [
            "tench\ngreat white shark\n",
            "\u{feff}tench\r\n great white shark \r\n\r\n",
            r#"["tench", "great white shark"]"#,
        ] {
            assert_eq!(parse(text).unwrap(), ["tench", "great white shark"], "{text:?}");
        }
    }

    #[test]
    fn gaps_and_other_json_are_refused() {
        assert!(parse("tench\n\nshark").unwrap_err().to_string().contains("line 2"));
        for text in ["[1, 2]", r#"{"0": "tench"}"#, "[\"tench\""] {
            assert!(format!("{:#}", parse(text).unwrap_err()).contains("JSON list"), "{text}");
        }
    }
}
