//! The settings that count, each with where it comes from.

use super::file::CONFIG;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::fmt;
use toml::Value;

/// Settings that nobody is to read off a log.
const SECRETS: [&str; 2] = ["api-keys", "admin-token"];

/// Prints as a TOML file that sets the same again. What it cannot set is a comment: which file was read, secrets, and what
/// is not set.
#[derive(Debug)]
pub struct Effective(Vec<Line>);

#[derive(Debug)]
struct Line {
    key: String,
    /// None if it is not set.
    values: Vec<String>,
    source: &'static str,
}

impl Effective {
    pub fn new(command: &Command, matches: &ArgMatches, with_file: bool) -> Self {
        let plain = <super::Settings as clap::CommandFactory>::command();
        let lines = command.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let key = argument.get_long()?.to_owned();
            let values = matches.get_raw(id).unwrap_or_default();
            let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let built_in = plain.get_arguments().find(|other| other.get_id() == id);
            let changed = built_in.is_some_and(|other| other.get_default_values() != argument.get_default_values());
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag",
                Some(ValueSource::EnvVariable) => "environment",
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
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            line.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { key, values, source } = self;
        match values.as_slice() {
            [] => write!(f, "# {key} is not set"),
            _ if SECRETS.contains(&key.as_str()) => write!(f, "# {key} = \"***\"  # {source}"),
            // As Rust escapes it, which keeps it on its line.
            [path] if key == CONFIG => write!(f, "# {key} = {path:?}  # {source}"),
            [value] => write!(f, "{key} = {}  # {source}", Value::from(value.as_str())),
            values => write!(f, "{key} = {}  # {source}", Value::from(values.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::tests::read;

    #[test]
    fn what_counts_is_told_with_where_it_comes_from_but_no_secret() {
        let file = "listen = \"0.0.0.0:80\"\nadmin-token = \"hush\"";
        let (_, effective) = read(file, &["--queue-size", "9", "--api-keys", "still"]).unwrap();
        let text = effective.to_string();
        for line in [
            "listen = \"0.0.0.0:80\"  # file",
            "queue-size = \"9\"  # flag",
            "timeout = \"30s\"  # default",
            "# admin-token = \"***\"  # file",
            "# api-keys = \"***\"  # flag",
            "# default is not set",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(text.starts_with("# config = \"") && text.contains("server.toml\"  # flag"), "{text}");
        assert!(!text.contains("hush") && !text.contains("still"), "{text}");
    }

    #[test]
    fn what_is_told_sets_the_same_again_but_for_secrets() {
        let file = r#"
            models = 'C:\models "new"'
            model = ["a=1", "b=2"]
            cors-origins = []
            admin-token = "hush"
        "#;
        let flags =
            ["--threads=3", "--device=cpu,cpu", "--watch=1m 30s", "--log=info,tower=\u{1b}\nwarn", "--max-body=1MiB"];
        let (settings, effective) = read(file, &flags).unwrap();
        let (again, _) = read(&effective.to_string(), &[]).unwrap();
        let expected = Settings { config: again.config.clone(), admin_token: None, ..settings };
        assert_eq!(again, expected);
    }
}
