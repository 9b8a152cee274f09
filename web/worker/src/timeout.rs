//! Time limits for futures. `futures_util::future::select` would need another dependency of the worker, whose size is
//! limited.

use gloo_timers::future::TimeoutFuture;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Returns the output of `future`, or `None` if it takes longer than `milliseconds`; the future is then dropped.
pub async fn timeout<T>(milliseconds: u32, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut timer) = (pin!(future), pin!(TimeoutFuture::new(milliseconds)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
    .await
}
