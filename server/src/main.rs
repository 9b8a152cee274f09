//! The REST server: photos in, predictions out. It carries the page, and serves the weights to those who compute themselves.
//!
//! The way of a photo: `routes::predict` (HTTP) -> `photos` (from the request) -> `preparation` (decoded and cropped, on a
//! bounded number of threads) -> `engine_thread` (one a model, fed by a queue). Nothing computes on the async threads.

mod app;
mod arguments;
mod content;
mod engine_thread;
mod error;
#[cfg(test)]
mod fixture;
mod greeting;
mod model_files;
mod photos;
mod preparation;
mod registry;
mod router;
mod routes;
mod shutdown;

use anyhow::{Context, Result};
use app::App;
use arguments::Arguments;
use axum::serve::ListenerExt;
use clap::Parser;
use model::engine::EngineOptions;
use registry::{Model, Registry};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Stdout is for what the server says to the person or program that started it.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let start = Instant::now();
    let files = model_files::resolve(&arguments)?;
    // Bound before the models are read, so that an occupied port is said at once.
    let listener = TcpListener::bind(&arguments.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address or port with --listen", arguments.listen)
    })?;
    let address = listener.local_addr()?;

    let options =
        EngineOptions { threads: arguments.threads, precision: arguments.precision, ..EngineOptions::default() };
    let models = files.iter().map(|file| Model::load(file, arguments.device, options)).collect::<Result<Vec<_>>>()?;
    let app = Arc::new(App::new(Registry::new(models, arguments.default.as_deref())?));
    greeting::listening(address);

    let announce = async {
        app.registry.prepared().await?;
        greeting::ready(address, &app.registry, start.elapsed());
        std::future::pending().await
    };
    // A photo's answer is one small packet, which must not wait for an acknowledgement.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let serve = axum::serve(listener, router::router(app.clone())).with_graceful_shutdown(shutdown::requested());
    tokio::select! {
        failed = announce => failed,
        served = serve => served.context("the server cannot go on"),
        () = shutdown::overdue() => Ok(()),
    }
}
