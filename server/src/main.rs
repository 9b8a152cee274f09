//! The server program: reads the settings, sets up logging, and runs the server.

use server::settings::{LogFormat, ResolvedSettings, Settings};
use std::io::IsTerminal;
use std::num::NonZero;
use std::process::ExitCode;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let (settings, resolved) = match Settings::load(std::env::args_os()) {
        Ok(read) => read,
        // clap formats help and errors of the command line.
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(error) => error.exit(),
            Err(error) => return failure(&error),
        },
    };
    let _log_guard = match init_logging(&settings, &resolved) {
        Ok(guard) => guard,
        Err(error) => return failure(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(async_threads()).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into()),
    };
    let outcome = runtime.block_on(server::run(settings));
    // Dropping the runtime would wait for a file that is still being read, which may be on an unresponsive disk.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// Returns half the number of processors: nothing computes on these threads, and more of them would wake each other for
/// little work.
fn async_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}

/// Sets up logging to stderr; stdout is for messages to the person or program that started the server. A separate
/// thread writes the log and drops lines that are not read, so that a blocked or closed pipe does not stop the server.
fn init_logging(settings: &Settings, resolved: &ResolvedSettings) -> anyhow::Result<WorkerGuard> {
    let filter: Targets = settings.log.parse().map_err(|error| {
        anyhow::anyhow!("--log {:?}: {error}; expected a level, or MODULE=LEVEL, separated by commas", settings.log)
    })?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(filter).init();
    tracing::info!("settings:\n{resolved}");
    Ok(guard)
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
