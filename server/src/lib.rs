//! The REST server: photos in, predictions out. It carries the page, and serves the weights to those who compute themselves.
//!
//! The way of a photo: `connections` (sockets) -> `router` and `middleware` (HTTP) -> `routes::predict` -> `photos`,
//! `form` and `body` (from the request) -> `decoding` (on threads of its own) -> `batching` (one queue a model, drawn from
//! by its engines). Nothing computes on the async threads.

mod app;
mod batching;
mod body;
mod connections;
mod content;
mod decoding;
mod descriptors;
mod device_memory;
mod documents;
mod error;
mod few;
#[cfg(test)]
mod fixture;
mod form;
mod free_memory;
mod greeting;
mod metrics;
mod middleware;
mod photos;
mod registry;
mod router;
mod routes;
pub mod settings;
mod shutdown;
mod socket;

pub mod parsers;

use anyhow::{Context, Result};
use app::App;
use metrics::Metrics;
use registry::{Loader, ModelFiles, Registry};
use settings::Settings;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;

/// Serves until it is told to stop.
///
/// # Errors
/// If it cannot start: an address that is taken, a checkpoint that is none, a device that is not there.
pub async fn run(settings: Settings) -> Result<()> {
    let start = Instant::now();
    // Bound before the models are read, so that an occupied port is said at once.
    let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address or port with --listen", settings.listen)
    })?;
    let address = listener.local_addr()?;

    let metrics = Arc::new(Metrics::new());
    let files = ModelFiles::of(&settings);
    let registry = Registry::load_all(Loader::of(&settings), files, settings.default.clone(), metrics.clone())?;
    let app = Arc::new(App::new(&settings, registry, metrics)?);
    let router = router::router(app.clone())?;
    greeting::listening(address);

    let announce = async {
        app.registry.prepared().await?;
        greeting::ready(address, &app.registry, start.elapsed());
        if settings.watch.is_zero() {
            std::future::pending().await
        } else {
            registry::watch(app.registry.clone(), settings.watch).await
        }
        Ok(())
    };
    let stop = shutdown::begun(&app, &settings);
    tokio::select! {
        never = free_memory::give_back() => match never {},
        failed = announce => failed,
        () = connections::serve(listener, router, app.clone(), &settings, stop) => Ok(()),
        () = shutdown::overdue(&settings) => Ok(()),
    }
}
