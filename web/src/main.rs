//! The page: drop a photo, see what a residual network recognises in it.
//!
//! Nothing is computed here. A [`worker`] classifies, on the visitor's device; the server does where the worker cannot,
//! and the page says which. [`session`] holds what there is to know, [`queue`] has photos answered one by one, and
//! `components` show it.

mod app;
mod catalogue;
mod components;
mod heat;
mod hooks;
mod local;
mod photo;
mod queue;
mod server;
mod session;
mod shot;
mod transcode;
mod words;

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use wasm_bindgen_futures::spawn_local;

fn main() {
    console_error_panic_hook::set_once();
    spawn_local(async {
        // The task that made an instance of this module was long enough. Leptos begins tasks only once it is mounted.
        TimeoutFuture::new(0).await;
        if let Some(placeholder) = document().get_element_by_id("without-wasm") {
            placeholder.remove();
        }
        mount_to_body(app::App);
    });
}
