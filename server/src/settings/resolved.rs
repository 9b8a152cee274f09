//! The values of all settings, each with its source, for the log.

use super::config_file::CONFIG;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use std::fmt;
use toml::Value;

/// Settings whose values must not appear in the log.
const SECRETS: [&str; 2] = ["api-keys", "admin-token"];

/// All settings. They are displayed as a TOML file that reproduces them; the path of the configuration file, secrets,
/// and settings without a value appear as comments.
#[derive(Debug)]
pub struct ResolvedSettings(Vec<ResolvedSetting>);

#[derive(Debug)]
struct ResolvedSetting {
    key: String,
    /// Empty if the setting has no value.
    values: Vec<String>,
    source: &'static str,
}

impl ResolvedSettings {
    pub fn new(command: &Command, matches: &ArgMatches, with_file: bool) -> Self {
        let without_file = <super::Settings as clap::CommandFactory>::command();
        let settings = command.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let key = argument.get_long()?.to_owned();
            let values = matches.get_raw(id).unwrap_or_default();
            let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let built_in = without_file.get_arguments().find(|other| other.get_id() == id);
            let changed = built_in.is_some_and(|other| other.get_default_values() != argument.get_default_values());
            let source = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => "flag",
                Some(ValueSource::EnvVariable) => "environment",
                _ if with_file && changed => "file",
                _ => "default",
            };
            Some(ResolvedSetting { key, values, source })
        });
        ResolvedSettings(settings.collect())
    }
}

impl fmt::Display for ResolvedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, setting) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            setting.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ResolvedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResolvedSetting { key, values, source } = self;
        match values.as_slice() {
            [] => write!(f, "# {key} is not set"),
            _ if SECRETS.contains(&key.as_str()) => write!(f, "# {key} = \"***\"  # {source}"),
            // Escaped as in Rust, because a line break would end the comment.
            [path] if key == CONFIG => write!(f, "# {key} = {path:?}  # {source}"),
            [value] => write!(f, "{key} = {}  # {source}", Value::from(value.as_str())),
            values => write!(f, "{key} = {}  # {source}", Value::from(values.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::tests::load;

    #[test]
    fn displays_values_with_their_sources_and_hides_secrets() {
        let file = "listen = \"0.0.0.0:80\"\nadmin-token = \"hush\"";
        let (_, resolved) = load(file, &["--queue-size", "9", "--api-keys", "still"]).unwrap();
        let text = resolved.to_string();
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
    fn displayed_file_reproduces_all_settings_except_secrets() {
        let file = r#"
            models = 'C:\models "new"'
            model = ["a=1", "b=2"]
            cors-origins = []
            admin-token = "hush"
        "#;
        let flags =
            ["--threads=3", "--device=cpu,cpu", "--watch=1m 30s", "--log=info,tower=\u{1b}\nwarn", "--max-body=1MiB"];
        let (settings, resolved) = load(file, &flags).unwrap();
        let (again, _) = load(&resolved.to_string(), &[]).unwrap();
        let expected = Settings { config: again.config.clone(), admin_token: None, ..settings };
        assert_eq!(again, expected);
    }
}
