//! Sockets: accepted up to a limit, given up when they are slow, and let finish when the server stops.

use crate::app::App;
use crate::descriptors;
use crate::middleware::unread;
use crate::settings::Settings;
use crate::socket::Socket;
use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Bytes of a request's line and headers.
const HEAD: usize = 32 << 10;
/// Bytes of a body that wait in a connection for who reads it.
const BUFFER: usize = 64 << 10;
/// How long accepting pauses if the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the log says so.
const COMPLAINT: Duration = Duration::from_secs(60);
/// Connections beyond the limit that are told so at a time; yet more are closed without a word.
const TOLD: usize = 64;
/// How long one of these may take to hear it.
const TELLING: Duration = Duration::from_secs(1);

const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
    Connection: close\r\nContent-Length: 85\r\n\r\n\
    {\"error\":{\"code\":\"overloaded\",\"message\":\"as many connections are open as there may\"}}";

/// Serves until `stop` is ready, then takes no new connections and waits for what was begun.
pub async fn serve(listener: TcpListener, router: Router, app: Arc<App>, settings: &Settings, stop: impl Future) {
    let most = descriptors::connections(settings.max_connections.get());
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let told = Arc::new(Semaphore::new(TOLD));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(HEAD)
        .max_buf_size(BUFFER);
    let mut complained = None;
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            accepted = accept(&listener, &mut complained) => accepted,
            _ = &mut stop => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            app.metrics.refused("connections");
            if let Ok(told) = told.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _told = told;
                    let _ = tokio::time::timeout(TELLING, refuse(Socket::new(stream, TELLING))).await;
                });
            }
            continue;
        };
        // An answer is often one small packet, which must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream, settings.stall_timeout);
        let is_sending = socket.is_sending();
        let service = ServiceExt::<Request<Incoming>>::map_response(router.clone(), move |response: Response| {
            is_sending.store(unread::is_left(&response), Ordering::Relaxed);
            response
        });
        let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        let connections = app.metrics.connections.clone();
        connections.inc();
        tokio::spawn(async move {
            let _place = place;
            // What goes wrong with a connection is its client's doing, and told nobody else.
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            connections.dec();
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection, however long that takes; `complained` is when the log last said why it takes longer.
async fn accept(listener: &TcpListener, complained: &mut Option<Instant>) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Of the connection, which has gone already.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => (),
            Err(error) => {
                if complained.is_none_or(|last| last.elapsed() > COMPLAINT) {
                    tracing::error!("no connection can be accepted: {error}");
                    *complained = Some(Instant::now());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn refuse(mut socket: Socket) -> std::io::Result<()> {
    // Or is about to.
    socket.is_sending().store(true, Ordering::Relaxed);
    socket.write_all(REFUSAL.as_bytes()).await?;
    socket.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let (head, body) = REFUSAL.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<model::prediction::Failure>(body).is_ok());
    }
}
