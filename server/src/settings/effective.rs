//! The settings that count, each with where it comes from.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::fmt;

/// Settings that nobody is to read off a log.
const SECRETS: [&str; 2] = ["api-keys", "admin-token"];

/// Prints as a TOML file that sets the same again, but for secrets.
#[derive(Debug)]
pub struct Effective(Vec<Line>);

#[derive(Debug)]
struct Line {
    key: String,
    values: Vec<String>,
    source: &'static str,
}

impl Effective {
    pub fn new(command: &Command, matches: &ArgMatches, with_file: bool) -> Self {
        let plain = <super::Settings as clap::CommandFactory>::command();
        let lines = command.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let key = argument.get_long()?.to_owned();
            let values = matches.get_raw(id)?.map(|value| value.to_string_lossy().into_owned());
            let values: Vec<String> =
                if SECRETS.contains(&key.as_str()) { vec!["***".to_owned()] } else { values.collect() };
            let built_in = plain.get_arguments().find(|other| other.get_id() == id);
            let changed = built_in.is_some_and(|other| other.get_default_values() != argument.get_default_values());
            let source = match matches.value_source(id)? {
                ValueSource::CommandLine => "flag",
                ValueSource::EnvVariable => "environment",
                _ if with_file && changed => "file",
                _ => "default",
            };
            Some(Line { key, values, source })
        });
        Effective(lines.collect())
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Line { key, values, source }) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match values.as_slice() {
                [value] => write!(f, "{key} = {value:?}  # {source}")?,
                values => write!(f, "{key} = {values:?}  # {source}")?,
            }
        }
        Ok(())
    }
}
