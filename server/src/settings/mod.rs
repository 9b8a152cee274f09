//! What an operator may set: by flag, by environment variable or in a TOML file, in this order of precedence, all under the
//! same names. [`Settings`] is the one list; a file's values become the defaults of its flags.

mod effective;
mod file;
mod units;
mod values;

pub use effective::Effective;
pub use units::Bytes;

use anyhow::{Result, ensure};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use model::engine::{self, Device, Precision};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// How many times the bytes of a body it takes with what is made of it at most: half-precision numbers become twice as many.
const TAKEN: usize = 3;

/// What a small photo takes that is large when it is decoded.
const LEAST_IN_FLIGHT: usize = 1_000_000;

/// Where checkpoints are looked for when none is named.
pub const DEFAULT_FOLDER: &str = "checkpoints";

/// Classifies photos over HTTP, and shows a page that does so in the browser.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Settings {
    /// A TOML file with any of these settings under their long names; flags and variables count more
    #[arg(long, env = "SHORTCUT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// A checkpoint (safetensors) and the name that answers give it; may be repeated
    #[arg(long = "model", env = "SHORTCUT_MODEL", value_name = "NAME=PATH", value_parser = values::named_path)]
    #[arg(value_delimiter = ',', help_heading = "Models")]
    pub model: Vec<(String, PathBuf)>,

    /// A folder whose every *.safetensors is served under its file's name; `checkpoints` if no model is named
    #[arg(long, env = "SHORTCUT_MODELS", value_name = "FOLDER", help_heading = "Models")]
    pub models: Option<PathBuf>,

    /// The model that answers when a request names none, and on which the page opens; else the one with the most classes
    #[arg(long, env = "SHORTCUT_DEFAULT", value_name = "NAME", help_heading = "Models")]
    pub default: Option<String>,

    /// How often the folder is looked at for checkpoints that are new, other or gone; 0s never. What is unloaded by request comes
    /// back then, unless its file is gone
    #[arg(long, env = "SHORTCUT_WATCH", value_name = "TIME", default_value = "0s", value_parser = units::interval)]
    #[arg(help_heading = "Models")]
    pub watch: Duration,

    /// Where to listen; port 0 takes a free one, 0.0.0.0 opens the server to the network
    #[arg(long, env = "SHORTCUT_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// What computes: cpu, or if they were built in, flex, webgpu[:N], wgpu[:N] and cuda[:N] (the N-th GPU); several with
    /// commas draw from one queue
    #[arg(long, env = "SHORTCUT_DEVICE", value_name = "DEVICE", default_value = "cpu", value_delimiter = ',')]
    #[arg(help_heading = "Computing")]
    pub device: Vec<Device>,

    /// Engines for each model on each device
    #[arg(long, env = "SHORTCUT_REPLICAS", value_name = "N", default_value = "1", value_parser = values::replicas)]
    #[arg(help_heading = "Computing")]
    pub replicas: NonZero<usize>,

    /// Threads for each engine on the device cpu; by default the cores divided by the replicas
    #[arg(long, env = "SHORTCUT_THREADS", value_name = "N", value_parser = engine::threads, help_heading = "Computing")]
    pub threads: Option<NonZero<usize>>,

    /// What is multiplied: f32; bf16 on the device cpu, if the processor has AVX512-BF16; f16 on the device webgpu (both
    /// faster, answers differ a little)
    #[arg(long, env = "SHORTCUT_PRECISION", value_name = "NAME", default_value_t, help_heading = "Computing")]
    pub precision: Precision,

    /// Images that go through an engine together; by default 32 on a GPU, and on the CPU, which gains little from more, four
    /// for every four threads
    #[arg(long, env = "SHORTCUT_MAX_BATCH_SIZE", value_name = "N", help_heading = "Computing")]
    pub max_batch_size: Option<NonZero<usize>>,

    /// How long an idle engine waits for a batch to fill
    #[arg(long, env = "SHORTCUT_MAX_QUEUE_DELAY", value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = units::duration, help_heading = "Computing")]
    pub max_queue_delay: Duration,

    /// Images that may wait for each model; more are refused with 503
    #[arg(long, env = "SHORTCUT_QUEUE_SIZE", value_name = "N", default_value = "512", help_heading = "Computing")]
    pub queue_size: NonZero<usize>,

    /// Threads that decode photos; by default as many as there are cores
    #[arg(long, env = "SHORTCUT_DECODE_THREADS", value_name = "N", value_parser = engine::threads)]
    #[arg(help_heading = "Computing")]
    pub decode_threads: Option<NonZero<usize>>,

    /// Photos that may wait to be decoded; more are refused with 503
    #[arg(long, env = "SHORTCUT_DECODE_QUEUE", value_name = "N", default_value = "512", help_heading = "Computing")]
    pub decode_queue: NonZero<usize>,

    /// How long a request may take, its transfer included, before it is answered with 504; the header x-timeout-ms asks for
    /// less
    #[arg(long, env = "SHORTCUT_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = units::time_limit)]
    #[arg(help_heading = "Limits")]
    pub timeout: Duration,

    /// How long a connection may take to send the head of a request, and may stay without one
    #[arg(long, env = "SHORTCUT_HEADER_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::time_limit, help_heading = "Limits")]
    pub header_timeout: Duration,

    /// How long a connection may go on without taking or sending any of a body
    #[arg(long, env = "SHORTCUT_STALL_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::time_limit, help_heading = "Limits")]
    pub stall_timeout: Duration,

    /// Bytes of a request's body, and of a photo
    #[arg(long, env = "SHORTCUT_MAX_BODY", value_name = "BYTES", default_value = "20MB", help_heading = "Limits")]
    pub max_body: Bytes,

    /// Photos of one request, but no more than --queue-size and --decode-queue, for these would never be taken
    #[arg(long, env = "SHORTCUT_MAX_PHOTOS", value_name = "N", default_value = "32", help_heading = "Limits")]
    pub max_photos: NonZero<usize>,

    /// Pixels of a photo, in millions
    #[arg(long, env = "SHORTCUT_MAX_MEGAPIXELS", value_name = "N", default_value = "50", help_heading = "Limits")]
    pub max_megapixels: NonZero<u32>,

    /// Memory of one decode
    #[arg(
        long,
        env = "SHORTCUT_MAX_DECODE_MEMORY",
        value_name = "BYTES",
        default_value = "512MiB",
        help_heading = "Limits"
    )]
    pub max_decode_memory: Bytes,

    /// Bytes of all bodies that are being read or worked on, and of what is made of them; more are refused with 503
    #[arg(
        long,
        env = "SHORTCUT_MAX_IN_FLIGHT",
        value_name = "BYTES",
        default_value = "256MB",
        help_heading = "Limits"
    )]
    pub max_in_flight: Bytes,

    /// Connections at a time; more are refused with 503
    #[arg(long, env = "SHORTCUT_MAX_CONNECTIONS", value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub max_connections: NonZero<usize>,

    /// Keys of which a request for predictions has to bring one, as `Authorization: Bearer KEY` or `x-api-key: KEY`; by
    /// default everybody may ask
    #[arg(long, env = "SHORTCUT_API_KEYS", value_name = "KEY", value_delimiter = ',', value_parser = values::secret)]
    #[arg(hide_env_values = true, help_heading = "Access")]
    pub api_keys: Vec<String>,

    /// The token that loads and unloads models over HTTP, as `Authorization: Bearer TOKEN`; without one nobody can
    #[arg(long, env = "SHORTCUT_ADMIN_TOKEN", value_name = "TOKEN", value_parser = values::secret)]
    #[arg(hide_env_values = true, help_heading = "Access")]
    pub admin_token: Option<String>,

    /// Origins whose pages may ask from a browser, such as https://example.org; * for all
    #[arg(long, env = "SHORTCUT_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',', value_parser = values::origin)]
    #[arg(help_heading = "Access")]
    pub cors_origins: Vec<String>,

    /// How long the server, told to stop, still takes requests while it says that it is not ready: as long as who sends them
    /// needs to notice
    #[arg(long, env = "SHORTCUT_SHUTDOWN_DELAY", value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = units::duration, help_heading = "Operating")]
    pub shutdown_delay: Duration,

    /// How long requests that were begun may take after that
    #[arg(long, env = "SHORTCUT_SHUTDOWN_GRACE", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::duration, help_heading = "Operating")]
    pub shutdown_grace: Duration,

    /// Of the log, which goes to stderr
    #[arg(long, env = "SHORTCUT_LOG_FORMAT", value_name = "NAME", default_value = "text", help_heading = "Operating")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also for parts, as tracing's EnvFilter reads it
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info", help_heading = "Operating")]
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// A JSON object a line
    Json,
}

const EXAMPLES: &str = "\
Examples:
  server                                      the bundled models, on http://127.0.0.1:8080
  server --model birds=birds.safetensors      a model of your own
  server --models /srv/models --watch 5s --listen 0.0.0.0:80
  server --config server.toml                 `models = \"/srv/models\"`, `watch = \"5s\"`, ...

  curl -F file=@photo.jpg http://127.0.0.1:8080/predict                   a photo; several with more -F
  curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?top_k=3'   a photo as it is
  curl http://127.0.0.1:8080/models                                       what is served

Every route is described at /docs.";

impl Settings {
    /// From a command line with the program's name in front, the environment, and the file that one of them names.
    ///
    /// # Errors
    /// What clap says of a command line, to be shown as it says; or what is wrong with the file.
    pub fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(Self, Effective)> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let mut command = Settings::command();
        let file = file::named(&arguments);
        if let Some(path) = &file {
            command = file::into_defaults(command, path)?;
        }
        let matches = command.clone().try_get_matches_from(arguments)?;
        let settings = Settings::from_arg_matches(&matches)?;
        settings.check()?;
        Ok((settings, Effective::new(&command, &matches, file.is_some())))
    }

    /// The photos that a request may have: more than may wait would be told for ever to come again later.
    pub fn photos_at_most(&self) -> usize {
        self.max_photos.min(self.queue_size).min(self.decode_queue).get()
    }

    /// What only two together get wrong.
    fn check(&self) -> Result<()> {
        let Settings { max_body, max_in_flight, .. } = self;
        let least = max_body.get().saturating_mul(TAKEN).max(LEAST_IN_FLIGHT);
        ensure!(
            max_in_flight.get() >= least,
            "--max-in-flight {max_in_flight} is less than the {least} bytes that a request as large as --max-body {max_body} allows may \
             take with what is made of it, so that such could never be answered"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Settings::command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_and_a_help() {
        for argument in Settings::command().get_arguments() {
            let name = argument.get_id().as_str();
            let variable = format!("SHORTCUT_{}", name.to_uppercase());
            let expected = if name == "log" { "RUST_LOG" } else { &variable };
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected), "{name}");
            assert_eq!(argument.get_long(), Some(name.replace('_', "-").as_str()));
            assert!(argument.get_help().is_some(), "{name}");
        }
    }

    pub(super) fn read(file: &str, flags: &[&str]) -> Result<(Settings, Effective)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, file).unwrap();
        Settings::read([&["server", "--config", path.to_str().unwrap()], flags].concat())
    }

    #[test]
    fn a_file_sets_what_no_flag_does() {
        let file = "listen = \"0.0.0.0:80\"\nqueue-size = 7\nmodel = [\"a=1\", \"b=2\"]\ntimeout = \"5s\"\nmax-body = \"1MiB\"";
        let (settings, _) = read(file, &["--queue-size", "9"]).unwrap();
        assert_eq!((settings.listen.as_str(), settings.queue_size.get()), ("0.0.0.0:80", 9));
        assert_eq!(settings.model.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((settings.timeout, settings.max_body.get()), (Duration::from_secs(5), 1 << 20));
    }

    #[test]
    fn the_file_is_named_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, "queue-size = 7").unwrap();
        let path = path.to_str().unwrap();
        for arguments in [
            &["--config", path, "--watch", "1s"][..],
            &["--watch", "1s", "--config", path],
            &["--watch=1s", &format!("--config={path}")],
        ] {
            let (settings, _) = Settings::read([&["server"], arguments].concat()).unwrap();
            assert_eq!((settings.queue_size.get(), settings.watch), (7, Duration::from_secs(1)), "{arguments:?}");
        }
        assert!(Settings::read(["server", "--watch", "1s", "--config", "no/such.toml"]).is_err());
    }

    #[test]
    fn what_a_file_gets_wrong_is_said() {
        for (file, words) in [
            ("listn = 1", &["listn", "listen"][..]),
            ("queue-size = 0", &["--queue-size", "0"]),
            ("queue-size = [[1]]", &["queue-size"]),
            ("queue-size = ", &["server.toml"]),
            ("config = \"other.toml\"", &["config"]),
        ] {
            let error = format!("{:#}", read(file, &[]).unwrap_err());
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        }
        let error = Settings::read(["server", "--config", "no/such.toml"]).unwrap_err();
        assert!(format!("{error:#}").contains("no/such.toml"), "{error:#}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (flags, words) in [
            (&["--timeout=0s"][..], &["--timeout", "at least 1ms"][..]),
            (&["--header-timeout=0s"], &["--header-timeout", "at least 1ms"]),
            (&["--stall-timeout=0s"], &["--stall-timeout", "at least 1ms"]),
            (&["--watch=5ms"], &["--watch", "at least 10ms"]),
            (&["--shutdown-grace=400d"], &["--shutdown-grace", "at most a year"]),
            (&["--max-body=0"], &["--max-body", "no bytes"]),
            (&["--max-decode-memory=0MB"], &["--max-decode-memory", "no bytes"]),
            (&["--max-body=1000000", "--max-in-flight=2999999"], &["--max-body 1000000", "--max-in-flight 2999999"]),
            (&["--max-body=1000", "--max-in-flight=999999"], &["--max-body 1000", "--max-in-flight 999999"]),
        ] {
            let error = format!("{:#}", Settings::read([&["server"], flags].concat()).unwrap_err());
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        }
        let none = ["server", "--watch=0s", "--max-queue-delay=0s", "--shutdown-delay=0s", "--shutdown-grace=0s"];
        assert!(Settings::read(none).is_ok());
        assert!(Settings::read(["server", "--max-body=1000000", "--max-in-flight=3000000"]).is_ok());
    }

    #[test]
    fn a_request_has_no_more_photos_than_may_wait() {
        for (flags, most) in [
            (&["--max-photos=3"][..], 3),
            (&["--max-photos=3", "--queue-size=2"], 2),
            (&["--max-photos=3", "--decode-queue=1"], 1),
        ] {
            let (settings, _) = Settings::read([&["server"], flags].concat()).unwrap();
            assert_eq!(settings.photos_at_most(), most, "{flags:?}");
        }
    }

    #[test]
    fn an_empty_secret_is_refused() {
        for flag in ["--api-keys=", "--api-keys=one,", "--admin-token= "] {
            assert!(Settings::read(["server", flag]).unwrap_err().to_string().contains("empty"), "{flag}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for flag in ["--api-keys= one", "--cors-origins=a b", "--cors-origins=https://example.org/", "--replicas=65"] {
            assert!(Settings::read(["server", flag]).is_err(), "{flag}");
        }
        assert!(Settings::read(["server", "--cors-origins=https://example.org:8443,*"]).is_ok());
    }
}
