//! When to stop: at Ctrl-C or SIGTERM the server accepts nothing more and answers what it has begun, within a limit.

use std::time::Duration;

/// How long requests that were begun may take after the signal.
const GRACE: Duration = Duration::from_secs(10);

/// Returns at Ctrl-C or SIGTERM.
pub async fn requested() {
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

/// Returns when the time for what was begun is up, or at a second signal.
pub async fn overdue() {
    requested().await;
    tracing::info!("shutting down; a second signal ends it at once");
    tokio::select! {
        () = requested() => tracing::warn!("requests that are still open are dropped"),
        () = tokio::time::sleep(GRACE) => {
            tracing::warn!("requests that are still open after {} s are dropped", GRACE.as_secs());
        }
    }
}
