//! The worker's global scope, and the way back to the page.

use crate::message::{PANIC, Reply};
use js_sys::global;
use model::prediction::FailureDetail;
use std::panic;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::DedicatedWorkerGlobalScope;

pub fn scope() -> DedicatedWorkerGlobalScope {
    global().unchecked_into()
}

/// Sends a reply. A reply that cannot be sent has nobody to be reported to.
pub fn reply(reply: Reply) {
    if let Ok(message) = reply.to_js() {
        let _ = scope().post_message(&message);
    }
}

pub fn fail(id: Option<u32>, code: &str, message: impl ToString) {
    reply(Reply::Failure { id, error: FailureDetail { code: code.to_owned(), message: message.to_string() } });
}

/// Lets the page know of a panic, beside the console: the module is of no use afterwards, and no promise of it will
/// ever be resolved. (Exhausted memory does not pass here; it reaches the page as an `error` event.)
pub fn report_panics() {
    panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        fail(None, PANIC, info);
    }));
}

/// What a thrown value says.
pub fn words(thrown: &JsValue) -> String {
    match thrown.dyn_ref::<js_sys::Error>() {
        Some(error) => error.message().into(),
        None => thrown.as_string().unwrap_or_else(|| format!("{thrown:?}")),
    }
}
