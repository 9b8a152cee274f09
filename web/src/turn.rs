//! Long work in short tasks.

use js_sys::{Function, Promise};
use leptos::prelude::window;
use wasm_bindgen_futures::JsFuture;

/// Ends the task that the page's thread is busy with, so that the browser can draw and listen; what follows is another.
pub async fn turn() {
    let next = Promise::new(&mut |resolve: Function, _| {
        // It takes a function, so it cannot throw.
        let _ = window().set_timeout_with_callback(&resolve);
    });
    let _ = JsFuture::from(next).await;
}
