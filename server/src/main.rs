//! The program: settings in, exit status out.

use server::settings::{Effective, LogFormat, Settings};
use std::io::IsTerminal;
use std::num::NonZero;
use std::process::ExitCode;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let (settings, effective) = match Settings::read(std::env::args_os()) {
        Ok(read) => read,
        // Help and what is wrong with the command line, as clap writes it.
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(error) => error.exit(),
            Err(error) => return failure(&error),
        },
    };
    let _written_to_the_end = match log(&settings, &effective) {
        Ok(guard) => guard,
        Err(error) => return failure(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(async_threads()).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into()),
    };
    let outcome = runtime.block_on(server::run(settings));
    // A file that is still being read, from a disk that does not answer, holds nobody up.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// Half as many as processors: nothing computes on them, and two that share little work wake each other for it.
fn async_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}

/// To stderr: stdout is for what the server says to the person or program that started it. By a thread of its own, which loses
/// lines that nobody reads: a log that is stuck, or whose reader has gone, stops nothing.
fn log(settings: &Settings, effective: &Effective) -> anyhow::Result<WorkerGuard> {
    let filter =
        EnvFilter::try_new(&settings.log).map_err(|error| anyhow::anyhow!("--log {}: {error}", settings.log))?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match settings.log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    tracing::info!("settings:\n{effective}");
    Ok(guard)
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
