//! The page: the visitor drops a photo and sees what a residual network recognises in it.
//!
//! The main thread computes nothing. A [`worker`] classifies photos on the visitor's device, or the server does if the
//! worker cannot, and the page shows which of the two answered. [`session`] holds the page's state, [`queue`] sends the
//! photos to the worker or the server one at a time, and `components` display the results.

mod app;
mod components;
mod format;
mod heatmap;
mod hooks;
mod model_list;
mod photo;
mod photo_entry;
mod queue;
mod server;
mod session;
mod transcode;
mod worker_client;

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

fn main() {
    console_error_panic_hook::set_once();
    spawn_local(async {
        // Ends the browser task that instantiated this module, so that no task gets too long. Leptos cannot run tasks
        // before it is mounted.
        TimeoutFuture::new(0).await;
        if let Some(placeholder) = document().get_element_by_id("without-wasm") {
            placeholder.remove();
        }
        mount_to_body(app::App);
    });
}
