//! A TOML file whose values become the defaults of the flags of the same names: they are read, checked and refused as these
//! are, and count less than flags and variables.

use anyhow::{Context, Result, bail};
use clap::{Arg, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The flag and the setting that name the file, which a file cannot.
pub const CONFIG: &str = "config";

/// The file that the command line names, or else the environment.
pub fn named(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    let mut of_flag = None;
    while let Some(argument) = rest.next() {
        match argument.to_str().and_then(|argument| argument.strip_prefix("--")?.strip_prefix(CONFIG)) {
            Some("") => of_flag = rest.next().map(PathBuf::from),
            Some(path) => of_flag = path.strip_prefix('=').map(PathBuf::from).or(of_flag),
            None => (),
        }
    }
    of_flag.or_else(|| std::env::var_os("SHORTCUT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from))
}

pub fn into_defaults(mut command: Command, path: &Path) -> Result<Command> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
    for (key, value) in table {
        let known = command.get_arguments().find(|argument| argument.get_long() == Some(&key));
        let Some(id) = known.map(|argument| argument.get_id().clone()).filter(|_| key != CONFIG) else {
            let keys = command.get_arguments().filter_map(Arg::get_long).filter(|&key| key != CONFIG);
            bail!("{}: there is no setting {key:?}; there are {}", path.display(), keys.collect::<Vec<_>>().join(", "));
        };
        let values = match value {
            Value::Array(values) => values.into_iter().map(|value| element(&key, value)).collect::<Result<Vec<_>>>(),
            value => word(&key, value).map(|word| vec![word]),
        };
        let values = values.with_context(|| path.display().to_string())?;
        command = command.mut_arg(id, |argument| argument.default_values(values));
    }
    Ok(command)
}

/// One of a list, which commas would make several of.
fn element(key: &str, value: Value) -> Result<String> {
    let word = word(key, value)?;
    if word.contains(',') { bail!("{key}: {word:?} has a comma, which separates values") } else { Ok(word) }
}

/// A value as a flag would give it.
fn word(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("{key}: text or a number is expected, or a list of these, not {value}"),
    }
}
