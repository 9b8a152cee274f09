//! Waiting, and not for ever: futures on the browser's timers.

use crate::scope::scope;
use js_sys::{Function, Promise};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use wasm_bindgen_futures::JsFuture;

/// Lets at least this many milliseconds pass, and whatever has happened meanwhile be dealt with.
pub async fn pause(milliseconds: i32) {
    let elapsed = Promise::new(&mut |resolve: Function, _| {
        // It takes a function and a number, so it cannot throw.
        let _ = scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, milliseconds);
    });
    let _ = JsFuture::from(elapsed).await;
}

/// What comes of a future, or none if that takes longer than these milliseconds; then it is dropped.
pub async fn within<T>(milliseconds: i32, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(pause(milliseconds)));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(context).map(|()| None),
    })
    .await
}
