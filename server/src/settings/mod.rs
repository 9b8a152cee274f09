//! The settings of the server. Each can be set by a flag, by an environment variable or in a TOML file, in this order
//! of precedence, under the same name. [`Settings`] is the single definition; values of the file become defaults of the
//! flags.

mod config_file;
mod resolved;
mod units;
mod values;

pub use resolved::ResolvedSettings;
pub use units::ByteCount;

use anyhow::{Result, ensure};
use checkpoints::CheckpointSource;
use clap::builder::FalseyValueParser;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use model::engine::{self, Device, Precision};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

/// Maximum memory for a request body and the data decoded from it, as a multiple of the body: half-precision tensors
/// double in size.
const BODY_MEMORY_FACTOR: usize = 3;

/// Minimum of `--max-in-flight`, in bytes: enough for a photo whose file is smaller than its cropped pixels.
const MIN_IN_FLIGHT: usize = 1_000_000;

/// Serve ResNet image classification over HTTP, together with a page that classifies photos in the browser.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(version, after_help = EXAMPLES)]
pub struct Settings {
    /// TOML file with any of these settings under their long names; flags and environment variables take precedence
    #[arg(long, env = "SHORTCUT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Name of a model, and its checkpoint: a safetensors file, or one of the bundled checkpoints resnet18-imagenette and
    /// resnet50_v1-imagenet; may be repeated [default: both bundled checkpoints, unless --models is given]
    #[arg(long = "model", env = "SHORTCUT_MODEL", value_name = "NAME=PATH", value_parser = values::named_checkpoint)]
    #[arg(value_delimiter = ',', help_heading = "Models")]
    pub model: Vec<(String, CheckpointSource)>,

    /// Folder of checkpoints; every *.safetensors is served under its file name
    #[arg(long, env = "SHORTCUT_MODELS", value_name = "FOLDER", help_heading = "Models")]
    pub models: Option<PathBuf>,

    /// Fail to start if a checkpoint of the model folder cannot be loaded [default: serve the others]
    #[arg(long, env = "SHORTCUT_STRICT", value_parser = FalseyValueParser::new(), help_heading = "Models")]
    pub strict: bool,

    /// Model for requests that do not name one, and preselected on the page [default: the one with the most classes]
    #[arg(long, env = "SHORTCUT_DEFAULT", value_name = "NAME", help_heading = "Models")]
    pub default: Option<String>,

    /// Interval at which to check the model folder for added, changed and removed checkpoints; 0s disables it. Models unloaded
    /// through the API are loaded again as long as their checkpoint exists
    #[arg(long, env = "SHORTCUT_WATCH", value_name = "TIME", default_value = "0s", value_parser = units::interval)]
    #[arg(help_heading = "Models")]
    pub watch: Duration,

    /// Folder of the web page, which may appear later and may change [default: the page in the program]
    #[arg(long, env = "SHORTCUT_PAGE", value_name = "FOLDER")]
    pub page: Option<PathBuf>,

    /// Address to listen on; port 0 selects a free port, 0.0.0.0 accepts connections from the network
    #[arg(long, env = "SHORTCUT_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// Devices for inference, separated by commas: cpu, and depending on the build flex, webgpu[:N], wgpu[:N] and cuda[:N] (the
    /// N-th GPU); several devices share one queue
    #[arg(long, env = "SHORTCUT_DEVICE", value_name = "DEVICE", default_value = "cpu", value_delimiter = ',')]
    #[arg(help_heading = "Computing")]
    pub device: Vec<Device>,

    /// Number of engines per model and device
    #[arg(long, env = "SHORTCUT_REPLICAS", value_name = "N", default_value = "1", value_parser = values::replicas)]
    #[arg(help_heading = "Computing")]
    pub replicas: NonZero<usize>,

    /// Number of threads per engine on device cpu [default: number of cores divided by the number of engines on the CPU]
    #[arg(long, env = "SHORTCUT_THREADS", value_name = "N", value_parser = engine::parse_thread_count, help_heading = "Computing")]
    pub threads: Option<NonZero<usize>>,

    /// Precision of multiplications: f32; bf16 on device cpu with AVX512-BF16; f16 on device webgpu. bf16 and f16 are faster but
    /// slightly less accurate
    #[arg(long, env = "SHORTCUT_PRECISION", value_name = "NAME", default_value_t, help_heading = "Computing")]
    pub precision: Precision,

    /// Maximum number of images per batch [default: 32 on a GPU; on the CPU, which gains little from batching, --threads
    /// rounded up to a multiple of 4]
    #[arg(long, env = "SHORTCUT_MAX_BATCH_SIZE", value_name = "N", help_heading = "Computing")]
    pub max_batch_size: Option<NonZero<usize>>,

    /// Maximum time that an idle engine waits for more images to fill a batch
    #[arg(long, env = "SHORTCUT_MAX_QUEUE_DELAY", value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = units::duration, help_heading = "Computing")]
    pub max_queue_delay: Duration,

    /// Maximum number of images queued per model; further ones are rejected with 503
    #[arg(long, env = "SHORTCUT_QUEUE_SIZE", value_name = "N", default_value = "512", help_heading = "Computing")]
    pub queue_size: NonZero<usize>,

    /// Number of threads that decode photos [default: number of cores]
    #[arg(long, env = "SHORTCUT_DECODE_THREADS", value_name = "N", value_parser = engine::parse_thread_count)]
    #[arg(help_heading = "Computing")]
    pub decode_threads: Option<NonZero<usize>>,

    /// Maximum number of photos waiting to be decoded; further ones are rejected with 503
    #[arg(long, env = "SHORTCUT_DECODE_QUEUE", value_name = "N", default_value = "512", help_heading = "Computing")]
    pub decode_queue: NonZero<usize>,

    /// Time limit for a request, including its upload, after which the server responds with 504; clients can set a lower limit
    /// with the header x-timeout-ms
    #[arg(long, env = "SHORTCUT_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = units::time_limit)]
    #[arg(help_heading = "Limits")]
    pub timeout: Duration,

    /// Time limit for receiving the headers of a request
    #[arg(long, env = "SHORTCUT_HEADER_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::time_limit, help_heading = "Limits")]
    pub header_timeout: Duration,

    /// Time limit for a connection without a request after its last response; longer than that of a load balancer in front, which
    /// would otherwise send requests on connections that are being closed
    #[arg(long, env = "SHORTCUT_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s")]
    #[arg(value_parser = units::time_limit, help_heading = "Limits")]
    pub idle_timeout: Duration,

    /// Time limit for a connection that makes no progress while it transfers a request or response body
    #[arg(long, env = "SHORTCUT_STALL_TIMEOUT", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::time_limit, help_heading = "Limits")]
    pub stall_timeout: Duration,

    /// Maximum size of a request body, and of each photo in it
    #[arg(long, env = "SHORTCUT_MAX_BODY", value_name = "BYTES", default_value = "20MB", help_heading = "Limits")]
    pub max_body: ByteCount,

    /// Maximum number of photos per request; also limited by --queue-size and --decode-queue
    #[arg(long, env = "SHORTCUT_MAX_PHOTOS", value_name = "N", default_value = "32", help_heading = "Limits")]
    pub max_photos: NonZero<usize>,

    /// Maximum number of pixels of a photo, in millions
    #[arg(long, env = "SHORTCUT_MAX_MEGAPIXELS", value_name = "N", default_value = "50", help_heading = "Limits")]
    pub max_megapixels: NonZero<u32>,

    /// Maximum memory for decoding a photo
    #[arg(
        long,
        env = "SHORTCUT_MAX_DECODE_MEMORY",
        value_name = "BYTES",
        default_value = "512MiB",
        help_heading = "Limits"
    )]
    pub max_decode_memory: ByteCount,

    /// Maximum memory for the request bodies being processed and the data decoded from them; further requests are rejected with
    /// 503
    #[arg(
        long,
        env = "SHORTCUT_MAX_IN_FLIGHT",
        value_name = "BYTES",
        default_value = "256MB",
        help_heading = "Limits"
    )]
    pub max_in_flight: ByteCount,

    /// Maximum number of simultaneous connections; further ones are rejected with 503
    #[arg(long, env = "SHORTCUT_MAX_CONNECTIONS", value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub max_connections: NonZero<usize>,

    /// API keys, separated by commas, one of which is required for predictions, as `Authorization: Bearer KEY` or `x-api-key:
    /// KEY` [default: no key is required]
    #[arg(long, env = "SHORTCUT_API_KEYS", value_name = "KEY", value_delimiter = ',', value_parser = values::secret)]
    #[arg(hide_env_values = true, help_heading = "Access")]
    pub api_keys: Vec<String>,

    /// Token for loading and unloading models over HTTP, as `Authorization: Bearer TOKEN` [default: disabled]
    #[arg(long, env = "SHORTCUT_ADMIN_TOKEN", value_name = "TOKEN", value_parser = values::secret)]
    #[arg(hide_env_values = true, help_heading = "Access")]
    pub admin_token: Option<String>,

    /// Origins allowed by CORS, separated by commas, such as https://example.org; * allows all, but no credentials
    #[arg(long, env = "SHORTCUT_CORS_ORIGINS", value_name = "ORIGIN", value_delimiter = ',', value_parser = values::origin)]
    #[arg(help_heading = "Access")]
    pub cors_origins: Vec<String>,

    /// Time after a stop signal during which the server still accepts requests but reports that it is not ready, so that load
    /// balancers notice
    #[arg(long, env = "SHORTCUT_SHUTDOWN_DELAY", value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = units::duration, help_heading = "Operations")]
    pub shutdown_delay: Duration,

    /// Time limit after --shutdown-delay for open requests to finish
    #[arg(long, env = "SHORTCUT_SHUTDOWN_GRACE", value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = units::duration, help_heading = "Operations")]
    pub shutdown_grace: Duration,

    /// Format of the log on stderr
    #[arg(long, env = "SHORTCUT_LOG_FORMAT", value_name = "NAME", default_value = "text", help_heading = "Operations")]
    pub log_format: LogFormat,

    /// Log level (off, error, warn, info, debug or trace), or levels of modules, separated by commas: warn,server::registry=debug
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info", help_heading = "Operations")]
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    /// One JSON object per line
    Json,
}

const EXAMPLES: &str = "\
Examples:
  server                                      serve the bundled models on http://127.0.0.1:8080
  server --model birds=birds.safetensors      serve your own model
  server --model birds=birds.safetensors --model imagenet=resnet50_v1-imagenet
  server --models /srv/models --watch 5s --listen 0.0.0.0:80
  server --config server.toml                 `models = \"/srv/models\"`, `watch = \"5s\"`, ...

  curl -F file=@photo.jpg http://127.0.0.1:8080/predict                   classify a photo, or several with more -F
  curl --data-binary @photo.jpg 'http://127.0.0.1:8080/predict?top_k=3'   send a photo as the request body
  curl http://127.0.0.1:8080/models                                       list the models

The API is documented at /docs.";

impl Settings {
    /// Reads the settings from a command line (including the program name), the environment, and the file named by `--config`.
    ///
    /// # Errors
    /// Returns a `clap::Error` if an argument or environment variable is invalid and for `--help` and `--version`, and other errors
    /// if the file is invalid or settings contradict each other.
    pub fn load(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(Self, ResolvedSettings)> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let mut command = Settings::command();
        let file = config_file::find_path(&arguments);
        if let Some(path) = &file {
            command = config_file::apply_as_defaults(command, path)?;
        }
        let matches = command.clone().try_get_matches_from(arguments)?;
        let settings = Settings::from_arg_matches(&matches)?;
        settings.check()?;
        Ok((settings, ResolvedSettings::new(&command, &matches, file.is_some())))
    }

    /// Returns the maximum number of photos per request. A request with more photos than fit into the queues would be rejected
    /// with 503 on every retry.
    pub fn max_photos_per_request(&self) -> usize {
        self.max_photos.min(self.queue_size).min(self.decode_queue).get()
    }

    /// Checks constraints between settings.
    fn check(&self) -> Result<()> {
        let Settings { max_body, max_in_flight, .. } = self;
        let minimum = max_body.get().saturating_mul(BODY_MEMORY_FACTOR).max(MIN_IN_FLIGHT);
        ensure!(
            max_in_flight.get() >= minimum,
            "--max-in-flight {max_in_flight} is too small for --max-body {max_body}: a request of that size may need \
             {minimum} bytes"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Settings::command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_a_variable_and_a_help_text() {
        for argument in Settings::command().get_arguments() {
            let name = argument.get_id().as_str();
            let variable = format!("SHORTCUT_{}", name.to_uppercase());
            let expected = if name == "log" { "RUST_LOG" } else { &variable };
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected), "{name}");
            assert_eq!(argument.get_long(), Some(name.replace('_', "-").as_str()));
            assert!(argument.get_help().is_some(), "{name}");
        }
    }

    pub(super) fn load(file: &str, flags: &[&str]) -> Result<(Settings, ResolvedSettings)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, file).unwrap();
        Settings::load([&["server", "--config", path.to_str().unwrap()], flags].concat())
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let file = "listen = \"0.0.0.0:80\"\nqueue-size = 7\nmodel = [\"a=1\", \"b=2\"]\ntimeout = \"5s\"\nmax-body = \"1MiB\"";
        let (settings, _) = load(file, &["--queue-size", "9"]).unwrap();
        assert_eq!((settings.listen.as_str(), settings.queue_size.get()), ("0.0.0.0:80", 9));
        assert_eq!(settings.model.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((settings.timeout, settings.max_body.get()), (Duration::from_secs(5), 1 << 20));
    }

    #[test]
    fn config_flag_may_be_at_any_position() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.toml");
        std::fs::write(&path, "queue-size = 7").unwrap();
        let path = path.to_str().unwrap();
        for arguments in [
            &["--config", path, "--watch", "1s"][..],
            &["--watch", "1s", "--config", path],
            &["--watch=1s", &format!("--config={path}")],
        ] {
            let (settings, _) = Settings::load([&["server"], arguments].concat()).unwrap();
            assert_eq!((settings.queue_size.get(), settings.watch), (7, Duration::from_secs(1)), "{arguments:?}");
        }
        assert!(Settings::load(["server", "--watch", "1s", "--config", "no/such.toml"]).is_err());
    }

    #[test]
    fn invalid_files_are_reported() {
        for (file, words) in [
            ("listn = 1", &["listn", "listen"][..]),
            ("queue-size = 0", &["--queue-size", "0"]),
            ("queue-size = [[1]]", &["queue-size"]),
            ("queue-size = ", &["server.toml"]),
            ("config = \"other.toml\"", &["config"]),
        ] {
            let error = format!("{:#}", load(file, &[]).unwrap_err());
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        }
        let error = Settings::load(["server", "--config", "no/such.toml"]).unwrap_err();
        assert!(format!("{error:#}").contains("no/such.toml"), "{error:#}");
    }

    #[test]
    fn rejects_values_out_of_range_and_contradictions() {
        for (flags, words) in [
            (&["--timeout=0s"][..], &["--timeout", "at least 1ms"][..]),
            (&["--header-timeout=0s"], &["--header-timeout", "at least 1ms"]),
            (&["--idle-timeout=0s"], &["--idle-timeout", "at least 1ms"]),
            (&["--stall-timeout=0s"], &["--stall-timeout", "at least 1ms"]),
            (&["--watch=5ms"], &["--watch", "at least 10ms"]),
            (&["--shutdown-grace=400d"], &["--shutdown-grace", "at most 365d"]),
            (&["--max-body=0"], &["--max-body", "greater than zero"]),
            (&["--max-decode-memory=0MB"], &["--max-decode-memory", "greater than zero"]),
            (&["--max-body=1000000", "--max-in-flight=2999999"], &["--max-body 1000000", "--max-in-flight 2999999"]),
            (&["--max-body=1000", "--max-in-flight=999999"], &["--max-body 1000", "--max-in-flight 999999"]),
        ] {
            let error = format!("{:#}", Settings::load([&["server"], flags].concat()).unwrap_err());
            assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error}");
        }
        let zero = ["server", "--watch=0s", "--max-queue-delay=0s", "--shutdown-delay=0s", "--shutdown-grace=0s"];
        assert!(Settings::load(zero).is_ok());
        assert!(Settings::load(["server", "--max-body=1000000", "--max-in-flight=3000000"]).is_ok());
    }

    #[test]
    fn photos_per_request_are_limited_by_the_queues() {
        for (flags, limit) in [
            (&["--max-photos=3"][..], 3),
            (&["--max-photos=3", "--queue-size=2"], 2),
            (&["--max-photos=3", "--decode-queue=1"], 1),
        ] {
            let (settings, _) = Settings::load([&["server"], flags].concat()).unwrap();
            assert_eq!(settings.max_photos_per_request(), limit, "{flags:?}");
        }
    }

    #[test]
    fn rejects_empty_secrets() {
        for flag in ["--api-keys=", "--api-keys=one,", "--admin-token= "] {
            assert!(Settings::load(["server", flag]).unwrap_err().to_string().contains("empty"), "{flag}");
        }
    }

    #[test]
    fn rejects_values_that_could_never_match() {
        for flag in ["--api-keys= one", "--cors-origins=a b", "--cors-origins=https://example.org/", "--replicas=65"] {
            assert!(Settings::load(["server", flag]).is_err(), "{flag}");
        }
        assert!(Settings::load(["server", "--cors-origins=https://example.org:8443,*"]).is_ok());
    }
}
