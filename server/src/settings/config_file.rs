//! The TOML configuration file. Its values become the defaults of the flags of the same names, so that they are parsed
//! and validated like flags, and flags and environment variables take precedence.

use anyhow::{Context, Result, bail};
use clap::{Arg, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Name of the flag for the path of the file, which cannot be set in the file.
pub const CONFIG: &str = "config";

/// Returns the path given on the command line, otherwise that given by the environment.
pub fn find_path(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    let mut flag = None;
    while let Some(argument) = rest.next() {
        match argument.to_str().and_then(|argument| argument.strip_prefix("--")?.strip_prefix(CONFIG)) {
            Some("") => flag = rest.next().map(PathBuf::from),
            Some(path) => flag = path.strip_prefix('=').map(PathBuf::from).or(flag),
            None => (),
        }
    }
    flag.or_else(|| std::env::var_os("SHORTCUT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// Reads the file and makes its values the defaults of `command`'s arguments.
///
/// # Errors
/// Returns an error if the file cannot be read, is not TOML, or contains an unknown setting or a value of the wrong
/// type.
pub fn apply_as_defaults(mut command: Command, path: &Path) -> Result<Command> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = text.parse().with_context(|| format!("invalid TOML in {}", path.display()))?;
    for (key, value) in table {
        let known = command.get_arguments().find(|argument| argument.get_long() == Some(&key));
        let Some(id) = known.map(|argument| argument.get_id().clone()).filter(|_| key != CONFIG) else {
            let keys = command.get_arguments().filter_map(Arg::get_long).filter(|&key| key != CONFIG);
            let keys = keys.collect::<Vec<_>>().join(", ");
            bail!("{}: unknown setting {key:?}; available settings: {keys}", path.display());
        };
        let values = match value {
            Value::Array(values) => values.into_iter().map(|value| element(&key, value)).collect::<Result<Vec<_>>>(),
            value => scalar(&key, value).map(|text| vec![text]),
        };
        let values = values.with_context(|| path.display().to_string())?;
        command = command.mut_arg(id, |argument| argument.default_values(values));
    }
    Ok(command)
}

/// Converts an element of a list to text. Commas are rejected, because they would split it into several values.
fn element(key: &str, value: Value) -> Result<String> {
    let text = scalar(key, value)?;
    if text.contains(',') { bail!("{key}: {text:?} contains a comma, which separates values") } else { Ok(text) }
}

/// Converts a value to the text that a flag would have.
fn scalar(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("{key}: expected a string, number or boolean, or a list of these, not {value}"),
    }
}
