//! Detects clients that disconnect while their request is processed.
//!
//! A client that closes its connection, and one that only closes its sending side because it has sent everything, look
//! the same at first. The second waits for its response. To tell them apart, the server sends an interim response, which
//! every client of HTTP/1.1 skips (RFC 9110, section 15.2): a closed connection answers it with a reset. Most requests
//! are answered before that is necessary.

use crate::exchange::Phase;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Time after which a client that closed its sending side is sent an interim response.
const PROBE_DELAY: Duration = Duration::from_secs(1);

/// The interim response. Hyper sends the same bytes to clients that wait for permission to send a body.
pub const INTERIM_RESPONSE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub struct Disconnect {
    stream: Arc<TcpStream>,
    /// Completes when the connection was reset.
    reset: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Completes when the client has closed its sending side; `None` afterwards.
    half_closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Fires when the interim response is due.
    probe_timer: Option<Pin<Box<Sleep>>>,
    was_probed: bool,
    /// Whether part of the response to the current request was sent.
    response_has_begun: bool,
}

impl Disconnect {
    pub fn new(stream: Arc<TcpStream>) -> Self {
        Disconnect {
            reset: Box::pin(reset(stream.clone())),
            half_closed: Some(Box::pin(half_closed(stream.clone()))),
            stream,
            probe_timer: None,
            was_probed: false,
            response_has_begun: false,
        }
    }

    /// Records that hyper wrote these bytes.
    pub fn record_written(&mut self, bytes: &[u8], phase: Phase) {
        if matches!(phase, Phase::Request { .. }) && bytes != INTERIM_RESPONSE {
            self.response_has_begun = true;
        }
    }

    /// Fails if the client has disconnected. All that was written before must have been passed to the socket.
    pub fn check(&mut self, phase: Phase, context: &mut Context) -> Result<()> {
        if self.reset.as_mut().poll(context).is_ready() {
            self.reset = Box::pin(std::future::ready(()));
            return Err(Error::new(ErrorKind::ConnectionAborted, "client disconnected"));
        }
        if !matches!(phase, Phase::Request { .. }) {
            self.response_has_begun = false;
        }
        let half_closed = self.half_closed.as_mut().is_none_or(|closed| closed.as_mut().poll(context).is_ready());
        if !half_closed {
            return Ok(());
        }
        self.half_closed = None;
        if phase == (Phase::Request { accepts_interim: true }) && !self.response_has_begun && !self.was_probed {
            let timer = self.probe_timer.get_or_insert_with(|| Box::pin(sleep(PROBE_DELAY)));
            if timer.as_mut().poll(context) == Poll::Ready(()) {
                self.was_probed = true;
                // An error would be reported by the next write too, and the send queue is empty.
                let _ = self.stream.try_write(INTERIM_RESPONSE);
            }
        }
        Ok(())
    }
}

/// Returns when the connection was reset, even if the receive buffer holds unread data.
async fn reset(stream: Arc<TcpStream>) {
    let _ = stream.ready(Interest::ERROR).await;
}

/// Returns when the client has closed its sending side, even if the receive buffer holds unread data.
#[cfg(target_os = "linux")]
async fn half_closed(stream: Arc<TcpStream>) {
    // We expect no out-of-band data, so readiness for PRIORITY means that the peer sends nothing more.
    let _ = stream.ready(Interest::PRIORITY).await;
}

/// Never returns, because other systems offer no readiness event for this. Closed connections are detected there when
/// their response is sent.
#[cfg(not(target_os = "linux"))]
async fn half_closed(_stream: Arc<TcpStream>) {
    std::future::pending().await
}
