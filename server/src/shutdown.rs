//! When to stop: at Ctrl-C or SIGTERM the server says that it is not ready, and then takes nothing more and answers what it
//! has begun, within a limit.

use crate::app::App;
use crate::settings::Settings;

/// Returns at Ctrl-C or SIGTERM.
async fn requested() {
    let interrupt = async { tokio::signal::ctrl_c().await.expect("Ctrl-C can be listened for") };
    #[cfg(unix)]
    let terminate = async {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).expect("SIGTERM can be listened for").recv().await;
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => (),
        () = terminate => (),
    }
}

/// Returns when no more connections are to be taken: a while after the first signal, so that who sends requests notices.
pub async fn begun(app: &App, settings: &Settings) {
    requested().await;
    app.stop();
    tracing::info!("shutting down; a second signal ends it at once");
    tokio::time::sleep(settings.shutdown_delay).await;
}

/// Returns when the time for what was begun is up, or at a second signal.
pub async fn overdue(settings: &Settings) {
    requested().await;
    tokio::select! {
        () = requested() => tracing::warn!("requests that are still open are dropped"),
        () = tokio::time::sleep(settings.shutdown_delay + settings.shutdown_grace) => {
            let grace = humantime::format_duration(settings.shutdown_grace);
            tracing::warn!("requests that are still open after {grace} are dropped");
        }
    }
}
