//! The JavaScript around the modules.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// The script with which a browser starts the worker.
pub const WORKER_LOADER: &str = "\
import init from './worker.js';
await init({ module_or_path: new URL('worker_bg.wasm', import.meta.url) });
";

/// Removes indentation, empty lines and comments from a file that wasm-bindgen generated, in place.
///
/// A minifier such as `minify-js` would also shorten names; it is not worth a dependency while the worker is within its size
/// limits.
pub fn compact(file: &Path) -> Result<()> {
    let script = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(fs::write(file, without_comments(&script))?)
}

/// Removes indentation, and lines that are empty or contain only a comment. No string that wasm-bindgen generates spans
/// lines, and each comment has its own lines.
fn without_comments(script: &str) -> String {
    let mut compacted = String::with_capacity(script.len());
    let mut in_comment = false;
    for line in script.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            compacted.push_str(line);
            compacted.push('\n');
        }
        in_comment &= !line.ends_with("*/");
    }
    compacted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_indentation_and_empty_lines_are_removed() {
        let script = "/* one line */\nlet url = 'http://host/*';\n\n/**\n * @param {number} a\n */\nfunction f(a) {\n    // Doubles.\n    return 2 * a; // kept\n}\n";
        assert_eq!(without_comments(script), "let url = 'http://host/*';\nfunction f(a) {\nreturn 2 * a; // kept\n}\n");
    }
}
