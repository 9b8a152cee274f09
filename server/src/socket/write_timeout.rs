//! Time limit for clients that receive slowly.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Minimum average rate at which a client must receive, in bytes per second.
const MIN_RATE: f64 = 1024.0;

/// Time limit for writes to a client that receives slowly. Time without progress uses up an allowance, and each
/// received byte restores some of it. With a limit on pauses alone, a client that receives one byte now and then would
/// hold its connection indefinitely.
pub struct WriteTimeout {
    /// Maximum allowance.
    limit: Duration,
    /// Allowance at the time of the last progress.
    remaining: Duration,
    stall: Option<Stall>,
}

/// A write that waits for room in the send queue.
struct Stall {
    since: Instant,
    /// Length of the send queue when the wait began.
    send_queue_len: usize,
    timer: Pin<Box<Sleep>>,
}

impl WriteTimeout {
    pub fn new(limit: Duration) -> Self {
        WriteTimeout { limit, remaining: limit, stall: None }
    }

    /// Passes on the result of a write, or fails if it is pending and the client made no progress for too long. The
    /// length of the send queue is checked as well, because a stream becomes writable only after its queue has shrunk
    /// considerably.
    pub fn apply(
        &mut self,
        written: Poll<Result<usize>>,
        send_queue_len: impl Fn() -> usize,
        context: &mut Context,
    ) -> Poll<Result<usize>> {
        if written.is_ready() {
            if let Some(Stall { since, .. }) = self.stall.take() {
                self.remaining = self.remaining.saturating_sub(since.elapsed());
            }
            if let Poll::Ready(Ok(bytes)) = &written {
                self.restore(*bytes);
            }
            return written;
        }
        loop {
            let remaining = self.remaining;
            let begin_stall = || Stall {
                since: Instant::now(),
                send_queue_len: send_queue_len(),
                timer: Box::pin(sleep_until(Instant::now() + remaining)),
            };
            let stall = self.stall.get_or_insert_with(begin_stall);
            ready!(stall.timer.as_mut().poll(context));
            let received = stall.send_queue_len.saturating_sub(send_queue_len());
            (self.stall, self.remaining) = (None, Duration::ZERO);
            if received == 0 {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "client stopped reading the response")));
            }
            self.restore(received);
        }
    }

    fn restore(&mut self, bytes: usize) {
        self.remaining = (self.remaining + Duration::from_secs_f64(bytes as f64 / MIN_RATE)).min(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::timeout;

    /// Returns whether a client that receives `bytes` every 60 milliseconds outlasts a write timeout of half a second.
    /// The stream becomes writable each time if `is_writable`; otherwise only the length of the send queue shows the
    /// progress.
    async fn outlasts_timeout(bytes: usize, is_writable: bool) -> bool {
        let mut write_timeout = WriteTimeout::new(Duration::from_millis(500));
        for received in 0..20 {
            let send_queue_len = || if is_writable { 1 << 20 } else { (1 << 20) - received * bytes };
            let timed_out = poll_fn(|context| write_timeout.apply(Poll::Pending, send_queue_len, context));
            if timeout(Duration::from_millis(60), timed_out).await.is_ok() {
                return false;
            }
            if is_writable {
                let written = poll_fn(|context| write_timeout.apply(Poll::Ready(Ok(bytes)), send_queue_len, context));
                assert_eq!(written.await.unwrap(), bytes);
            }
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn client_below_minimum_rate_times_out() {
        assert!(!outlasts_timeout(1, true).await);
        assert!(!outlasts_timeout(1, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_above_minimum_rate_is_served() {
        assert!(outlasts_timeout(1024, true).await);
        assert!(outlasts_timeout(1024, false).await);
    }
}
