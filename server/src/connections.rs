//! Accepts connections up to a limit, serves HTTP/1.1 on them, and lets them finish when the server shuts down.

use crate::app::App;
use crate::middleware::drain_body;
use crate::settings::Settings;
use crate::socket::{Socket, Timeouts};
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Maximum size of the request line and headers, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// Maximum number of received bytes that a connection buffers until they are read.
const MAX_BUFFER: usize = 64 << 10;
/// Pause after a failed accept, which usually means that the process is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Minimum interval between log messages about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum number of connections beyond the limit that receive a 503 at the same time; further ones are closed without
/// a response.
const MAX_REJECTIONS: usize = 64;
/// Time limit for sending that response.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// File descriptors that are needed in addition to those of connections: for the log, devices, checkpoints that are
/// being read, and connections that are being rejected.
const RESERVED_FILES: u64 = 192;

/// Response to a connection beyond the limit.
const REJECTION: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 77\r\n\r\n\
    {\"error\":{\"code\":\"overloaded\",\"message\":\"too many connections; retry later\"}}";

/// Serves until `stop` completes, then accepts no more connections and waits for open requests to finish.
pub async fn serve(listener: TcpListener, router: Router, app: Arc<App>, settings: &Settings, stop: impl Future) {
    let max_connections = limit_to_open_files(settings.max_connections.get()).min(Semaphore::MAX_PERMITS);
    let connection_permits = Arc::new(Semaphore::new(max_connections));
    let rejection_permits = Arc::new(Semaphore::new(MAX_REJECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    let timeouts =
        Timeouts { head: settings.header_timeout, idle: settings.idle_timeout, write: settings.stall_timeout };
    http.timer(TokioTimer::new())
        // The socket does not know that a head is incomplete if hyper received part of it with the previous request.
        .header_read_timeout(timeouts.head.saturating_add(timeouts.idle))
        .half_close(true)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER);
    let mut last_logged = None;
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = accept(&listener, &mut last_logged) => accepted,
            _ = &mut stop => break,
        };
        let Ok(permit) = connection_permits.clone().try_acquire_owned() else {
            app.metrics.record_refusal("connections");
            if let Ok(permit) = rejection_permits.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _permit = permit;
                    let timeouts = Timeouts { write: REJECTION_TIMEOUT, ..timeouts };
                    let socket = Socket::new(stream, timeouts);
                    let _ = tokio::time::timeout(REJECTION_TIMEOUT, reject(socket)).await;
                });
            }
            continue;
        };
        // Most responses fit into one small packet, which Nagle's algorithm would delay until the previous one is
        // acknowledged.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, timeouts);
        let (exchange, client_is_sending, router) = (socket.exchange(), socket.client_is_sending(), router.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            exchange.begin_request(request.version());
            let (exchange, client_is_sending) = (exchange.clone(), client_is_sending.clone());
            let response = router.clone().oneshot(request);
            async move {
                let Ok(response) = response.await;
                client_is_sending.store(drain_body::leaves_body_unread(&response), Ordering::Relaxed);
                Ok::<_, Infallible>(exchange.end_after(response))
            }
        });
        let connection = http.serve_connection(TokioIo::new(socket), service);
        let connection = graceful.watch(connection);
        let connections = app.metrics.connections.clone();
        connections.inc();
        tokio::spawn(async move {
            let _permit = permit;
            // Logged at debug level only, because connection errors are caused by clients.
            if let Err(error) = connection.await {
                tracing::debug!("connection closed: {error}");
            }
            connections.dec();
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Accepts the next connection, retrying after errors; `last_logged` is when such an error was last logged.
async fn accept(listener: &TcpListener, last_logged: &mut Option<Instant>) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client closed the connection before it was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => (),
            Err(error) => {
                if last_logged.is_none_or(|last| last.elapsed() > ACCEPT_LOG_INTERVAL) {
                    tracing::error!("cannot accept connections: {error}");
                    *last_logged = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Sends a 503 to a connection beyond the limit.
async fn reject(mut socket: Socket) -> std::io::Result<()> {
    // The client is sending its request, or will do so.
    socket.client_is_sending().store(true, Ordering::Relaxed);
    socket.write_all(REJECTION.as_bytes()).await?;
    socket.shutdown().await
}

/// Raises the limit of open files for `max_connections` connections, and returns how many of these it allows. Without
/// file descriptors the server could not even reject a connection, and the default limit of many systems is lower than
/// `--max-connections`.
fn limit_to_open_files(max_connections: usize) -> usize {
    let needed = (max_connections as u64).saturating_add(RESERVED_FILES);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed < needed => {
            let available = allowed.saturating_sub(RESERVED_FILES);
            let connections = usize::try_from(available).unwrap_or(max_connections).max(1);
            tracing::warn!(
                "--max-connections {max_connections} reduced to {connections}: this process may open {allowed} files \
                 (`ulimit -n`), and {RESERVED_FILES} of them are reserved"
            );
            connections
        }
        Ok(_) => max_connections,
        Err(error) => {
            tracing::warn!("cannot determine the limit of open files: {error}");
            max_connections
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_has_correct_content_length() {
        let (head, body) = REJECTION.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<model::prediction::Failure>(body).is_ok());
    }
}
