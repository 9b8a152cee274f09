//! Signals, and graceful shutdown. After Ctrl-C or SIGTERM the server first reports that it is not ready, then accepts no more
//! connections and finishes the open requests within a time limit.

use crate::app::App;
use crate::settings::Settings;
use std::convert::Infallible;

/// Waits for Ctrl-C or SIGTERM.
async fn wait_for_signal() {
    let interrupt = async { tokio::signal::ctrl_c().await.expect("a handler for Ctrl-C can be installed") };
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).expect("a handler for SIGTERM can be installed").recv().await;
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => (),
        () = terminate => (),
    }
}

/// Ignores SIGHUP, which a terminal sends when it is closed, from now on. The returned future logs it, and never completes.
///
/// # Errors
/// Returns an error if no handler can be installed.
#[cfg(unix)]
pub fn ignore_hangups() -> std::io::Result<impl Future<Output = Infallible>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangups = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangups.recv().await.is_some() {
            tracing::info!("SIGHUP is ignored; the server stops after SIGTERM or SIGINT");
        }
        std::future::pending().await
    })
}

/// Returns a future that never completes, because other systems have no SIGHUP.
#[cfg(not(unix))]
pub fn ignore_hangups() -> std::io::Result<impl Future<Output = Infallible>> {
    Ok(std::future::pending())
}

/// Waits for the first signal, reports the server as not ready from then on, and returns after `--shutdown-delay`, when
/// the server should accept no more connections. Load balancers notice during the delay that it is not ready.
pub async fn begin_after_signal(app: &App, settings: &Settings) {
    wait_for_signal().await;
    app.begin_shutdown();
    tracing::info!("shutting down; send a second signal to exit immediately");
    tokio::time::sleep(settings.shutdown_delay).await;
}

/// Waits until open requests should be aborted: `--shutdown-delay` plus `--shutdown-grace` after the first signal, or
/// at a second signal.
pub async fn wait_for_grace_period(settings: &Settings) {
    wait_for_signal().await;
    tokio::select! {
        () = wait_for_signal() => tracing::warn!("second signal received; aborting open requests"),
        () = tokio::time::sleep(settings.shutdown_delay + settings.shutdown_grace) => {
            let grace = humantime::format_duration(settings.shutdown_grace);
            tracing::warn!("requests still open after the grace period of {grace} (--shutdown-grace); aborting them");
        }
    }
}
