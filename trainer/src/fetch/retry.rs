//! Retries of requests that failed for a transient reason, with exponential backoff and jitter (crate `backon`).

use super::client::RequestError;
use crate::console;
use anyhow::Result;
use backon::{BackoffBuilder, BlockingRetryable, ExponentialBuilder};
use parking_lot::Mutex;
use std::time::Duration;

/// Shortest and longest delay before a retry, without jitter. Jitter increases a delay up to twice its length.
const MIN_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Retries of one operation: at most `max_retries` in a row without progress.
pub struct Retries {
    max_retries: u32,
    /// In a mutex, because `backon` requires a backoff that is `Send` and `Sync`.
    state: Mutex<State>,
}

struct State {
    delays: <ExponentialBuilder as BackoffBuilder>::Backoff,
    /// Retries since the last progress.
    retries: u32,
    /// Whether an earlier attempt reached the server. If so, a server that becomes unreachable is a transient failure,
    /// too.
    was_reached: bool,
    /// Delay that the server asked for in its last response.
    retry_after: Option<Duration>,
}

impl Retries {
    /// Allows `max_retries` retries in a row without progress.
    pub fn new(max_retries: u32) -> Self {
        let state = State { delays: delays(max_retries), retries: 0, was_reached: false, retry_after: None };
        Retries { max_retries, state: Mutex::new(state) }
    }

    /// Restores the full number of retries and the shortest delay, after the operation has made progress.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        (state.delays, state.retries) = (delays(self.max_retries), 0);
    }

    /// Runs `attempt` until it succeeds, fails permanently, or fails once more after the last retry. Every retry is
    /// announced on stderr.
    ///
    /// # Errors
    /// Returns the last failure.
    pub fn run<T>(&self, attempt: impl FnMut() -> Result<T, RequestError>) -> Result<T, RequestError> {
        attempt
            .retry(std::iter::from_fn(|| self.next_delay()))
            .when(|failure| self.is_retryable(failure))
            .notify(|failure, delay| {
                let (retries, max_retries) = (self.state.lock().retries, self.max_retries);
                console::note(format_args!(
                    "{failure:#}; trying again in {:.1} s ({retries} of {max_retries})",
                    delay.as_secs_f32()
                ));
            })
            .call()
    }

    fn next_delay(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        let delay = state.delays.next()?;
        state.retries += 1;
        Some(state.retry_after.take().unwrap_or(delay))
    }

    fn is_retryable(&self, failure: &RequestError) -> bool {
        let mut state = self.state.lock();
        match failure {
            RequestError::Permanent(_) => false,
            RequestError::Unreachable(_) => state.was_reached,
            RequestError::Transient { retry_after, .. } => {
                state.was_reached = true;
                state.retry_after = *retry_after;
                true
            }
        }
    }
}

/// Runs `attempt` with at most `max_retries` retries: see [`Retries::run`].
///
/// # Errors
/// Returns the last failure.
pub fn retry<T>(max_retries: u32, attempt: impl FnMut() -> Result<T, RequestError>) -> Result<T> {
    Retries::new(max_retries).run(attempt).map_err(RequestError::into_error)
}

fn delays(max_retries: u32) -> <ExponentialBuilder as BackoffBuilder>::Backoff {
    let builder = ExponentialBuilder::new().with_min_delay(MIN_DELAY).with_max_delay(MAX_DELAY).with_jitter();
    builder.with_max_times(max_retries as usize).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn broke() -> RequestError {
        RequestError::transient(anyhow!("broke"))
    }

    /// Returns the number of attempts, and the last error.
    fn attempts(max_retries: u32, failure: fn() -> RequestError) -> (u32, String) {
        let mut attempts = 0;
        let error = retry::<()>(max_retries, || {
            attempts += 1;
            Err(failure())
        });
        (attempts, error.unwrap_err().to_string())
    }

    #[test]
    fn retries_transient_failures_only() {
        assert_eq!(attempts(1, broke), (2, "broke".to_owned()));
        assert_eq!(attempts(0, broke), (1, "broke".to_owned()));
        assert_eq!(attempts(5, || RequestError::Permanent(anyhow!("no file"))), (1, "no file".to_owned()));
        assert_eq!(attempts(5, || RequestError::unreachable("no network")), (1, "no network".to_owned()));
    }

    #[test]
    fn retries_an_unreachable_server_that_was_reached_before() {
        let mut failures = vec![RequestError::unreachable("no network"), broke()];
        let value = retry(2, || failures.pop().map_or(Ok(7), Err)).unwrap();
        assert_eq!(value, 7);
    }

    #[test]
    fn reset_restores_all_retries() {
        let (retries, mut attempts) = (Retries::new(1), 0);
        let result: Result<(), RequestError> = retries.run(|| {
            attempts += 1;
            if attempts == 2 {
                retries.reset();
            }
            Err(broke())
        });
        assert!(result.is_err());
        assert_eq!(attempts, 3);
    }

    #[test]
    fn retry_after_replaces_the_delay() {
        let busy = RequestError::Transient { error: anyhow!("busy"), retry_after: Some(Duration::from_secs(7)) };
        let retries = Retries::new(2);
        assert!(retries.is_retryable(&busy));
        assert_eq!(retries.next_delay(), Some(Duration::from_secs(7)));
        assert!(retries.is_retryable(&broke()));
        let delay = retries.next_delay().unwrap();
        assert!(delay >= MIN_DELAY && delay < 4 * MIN_DELAY, "{delay:?}");
    }
}
