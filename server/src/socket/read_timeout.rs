//! Time limits for clients that send nothing, or only part of the head of a request.
//!
//! `header_read_timeout` of hyper was considered: it does not distinguish the two. Connections of load balancers must
//! stay open while they are idle, but clients that send a head byte by byte must not occupy them for as long.

use crate::exchange::{Exchange, Phase};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

pub struct ReadTimeout {
    exchange: Exchange,
    /// Time limit for receiving the head of a request.
    head: Duration,
    /// Time limit for an idle connection.
    idle: Duration,
    /// Runs in the phase for which it was set.
    timer: Option<(Phase, Pin<Box<Sleep>>)>,
}

impl ReadTimeout {
    pub fn new(exchange: Exchange, head: Duration, idle: Duration) -> Self {
        ReadTimeout { exchange, head, idle, timer: None }
    }

    /// Returns the phase whose time limit was exceeded, while a read is pending. There is no limit while a request is
    /// processed; `RequestBodyTimeoutLayer` limits pauses in its body.
    pub fn poll(&mut self, context: &mut Context) -> Poll<Phase> {
        let phase = self.exchange.phase();
        let limit = match phase {
            Phase::Head => self.head,
            Phase::Idle => self.idle,
            Phase::Request { .. } => {
                self.timer = None;
                return Poll::Pending;
            }
        };
        self.timer.take_if(|(timed, _)| *timed != phase);
        let (_, timer) = self.timer.get_or_insert_with(|| (phase, Box::pin(sleep(limit))));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Version;
    use axum::response::IntoResponse;
    use std::future::poll_fn;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn heads_and_idle_connections_have_their_own_limits() {
        let exchange = Exchange::new();
        let [head, idle] = [10, 75].map(Duration::from_secs);
        let mut read_timeout = ReadTimeout::new(exchange.clone(), head, idle);
        let mut expire = async || {
            let start = Instant::now();
            let phase = timeout(Duration::from_secs(1000), poll_fn(|context| read_timeout.poll(context))).await;
            (phase.ok(), start.elapsed().as_secs())
        };
        assert_eq!(expire().await, (Some(Phase::Head), 10));
        exchange.begin_request(Version::HTTP_11);
        assert_eq!(expire().await, (None, 1000));
        drop(exchange.end_after("".into_response()));
        assert_eq!(expire().await, (Some(Phase::Idle), 75));
        exchange.record_received();
        assert_eq!(expire().await, (Some(Phase::Head), 10));
    }
}
