//! What the page's address asks for: `?engine=auto`, `cpu` or `webgpu`.

use web_sys::UrlSearchParams;
use worker::message::Engine;

/// The engine to answer in the page; what is not understood asks for nothing.
pub fn engine() -> Engine {
    let query = web_sys::window().and_then(|window| window.location().search().ok());
    let query = query.and_then(|query| UrlSearchParams::new_with_str(&query).ok());
    match query.and_then(|query| query.get("engine")).as_deref() {
        Some("cpu") => Engine::Cpu,
        Some("webgpu") => Engine::WebGpu,
        _ => Engine::default(),
    }
}
