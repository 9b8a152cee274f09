//! Graceful shutdown. After Ctrl-C or SIGTERM the server first reports that it is not ready, then accepts no more connections
//! and finishes the open requests within a time limit.

use crate::app::App;
use crate::settings::Settings;

/// Returns at Ctrl-C or SIGTERM.
async fn signal_received() {
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

/// Returns when the server should accept no more connections: `--shutdown-delay` after the first signal, so that load
/// balancers notice that it is not ready.
pub async fn accept_until_signal(app: &App, settings: &Settings) {
    signal_received().await;
    app.begin_shutdown();
    tracing::info!("shutting down; send a second signal to exit immediately");
    tokio::time::sleep(settings.shutdown_delay).await;
}

/// Returns when open requests should be aborted: after `--shutdown-delay` and `--shutdown-grace`, or at a second signal.
pub async fn grace_period_over(settings: &Settings) {
    signal_received().await;
    tokio::select! {
        () = signal_received() => tracing::warn!("second signal received; aborting open requests"),
        () = tokio::time::sleep(settings.shutdown_delay + settings.shutdown_grace) => {
            let grace = humantime::format_duration(settings.shutdown_grace);
            tracing::warn!("requests still open after the grace period of {grace} (--shutdown-grace); aborting them");
        }
    }
}
