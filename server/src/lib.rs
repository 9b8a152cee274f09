//! The REST server: classifies photos and tensors, serves the web page, and serves the weights for inference in the
//! browser.
//!
//! The path of a photo: `connections` (sockets) -> `router` and `middleware` (HTTP) -> `routes::predict` -> `upload`
//! and `body` (reads it from the request) -> `decode_pool` (decodes it on dedicated threads) -> `inference` and
//! `batching` (one queue per model, shared by its engines). Nothing computes on the async threads.

mod app;
mod batching;
mod body;
mod bounded_seq;
mod connections;
#[cfg(test)]
mod corpus;
mod decode_pool;
mod error;
mod exchange;
#[cfg(test)]
mod fixture;
#[cfg(any(test, fuzzing))]
pub mod fuzz_api;
mod inference;
mod malloc_trim;
mod memory;
mod metrics;
mod middleware;
mod page_files;
#[cfg(test)]
#[path = "../../fuzz/peak.rs"]
mod peak;
mod registry;
mod router;
mod routes;
pub mod settings;
mod shutdown;
mod socket;
mod startup_banner;
mod static_asset;
mod upload;

// The fuzz targets, which `corpus` replays, refer to this crate by its name.
#[cfg(test)]
extern crate self as server;

use anyhow::{Context, Result};
use app::App;
use metrics::Metrics;
use registry::{Loader, ModelSources, Registry, RegistryOptions};
use settings::Settings;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;

/// Runs the server until it is told to stop.
///
/// # Errors
/// Returns an error if the server cannot start: the address is in use, no checkpoint is valid, or a device is missing.
pub async fn run(settings: Settings) -> Result<()> {
    let start = Instant::now();
    let ignore_hangups = shutdown::ignore_hangups()?;
    // Bound before the models are loaded, so that a port that is in use is reported at once.
    let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address or port with --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;

    let metrics = Arc::new(Metrics::new());
    let sources = ModelSources::from_settings(&settings);
    let options = RegistryOptions { default_name: settings.default.clone(), strict: settings.strict };
    let registry = Registry::load_all(Loader::new(&settings), sources, options, metrics.clone())?;
    let app = Arc::new(App::new(&settings, registry, metrics)?);
    let router = router::router(app.clone())?;
    startup_banner::print_listening(address);

    let announce = async {
        app.registry.wait_until_ready().await?;
        startup_banner::print_ready(address, &app.registry, &app.page, start.elapsed());
        if settings.watch.is_zero() {
            std::future::pending().await
        } else {
            registry::watch(app.registry.clone(), settings.watch).await
        }
        Ok(())
    };
    let stop = shutdown::begin_after_signal(&app, &settings);
    tokio::select! {
        never = malloc_trim::run_periodically() => match never {},
        never = ignore_hangups => match never {},
        failed = announce => failed,
        () = connections::serve(listener, router, app.clone(), &settings, stop) => Ok(()),
        () = shutdown::wait_for_grace_period(&settings) => Ok(()),
    }
}
