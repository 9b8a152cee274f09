//! Closes connections whose client is still sending.

use super::stream_io::read;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Maximum time for which a client may go on sending after its response is complete.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum pause of a client that goes on sending.
pub const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads and discards what the client sends after the response is complete, within time limits.
pub struct LingeringClose {
    deadline: Instant,
    /// Fires when the client pauses for too long, at the latest at `deadline`.
    timer: Pin<Box<Sleep>>,
}

impl LingeringClose {
    pub fn new() -> Self {
        LingeringClose { deadline: Instant::now() + LINGER_TIMEOUT, timer: Box::pin(sleep(LINGER_IDLE_TIMEOUT)) }
    }

    pub fn poll(&mut self, stream: &TcpStream, context: &mut Context) -> Poll<Result<()>> {
        let mut discarded = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match read(stream, context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let end = (Instant::now() + LINGER_IDLE_TIMEOUT).min(self.deadline);
                    self.timer.as_mut().reset(end);
                }
                Poll::Ready(result) => return Poll::Ready(result),
                Poll::Pending => return self.timer.as_mut().poll(context).map(Ok),
            }
        }
    }
}
