//! The worker's global scope, and replies to the page.

use crate::message::{PANIC, Reply};
use js_sys::global;
use model::prediction::FailureDetail;
use std::panic;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::DedicatedWorkerGlobalScope;

pub fn scope() -> DedicatedWorkerGlobalScope {
    global().unchecked_into()
}

/// Sends a reply to the page. Errors are ignored, since there is no other way to report them.
pub fn send_reply(reply: Reply) {
    if let Ok(message) = reply.to_js() {
        let _ = scope().post_message(&message);
    }
}

pub fn send_failure(id: Option<u32>, code: &str, message: String) {
    send_reply(Reply::Failure { id, error: FailureDetail { code: code.to_owned(), message } });
}

/// Reports panics to the page and to the console. After a panic, the module is unusable and none of its promises will
/// ever resolve. (Running out of memory does not call the panic hook; it reaches the page as an `error` event.)
pub fn report_panics() {
    panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        send_failure(None, PANIC, info.to_string());
    }));
}

/// Returns the message of a thrown JavaScript value.
pub fn error_message(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| format!("{thrown:?}")),
    }
}
