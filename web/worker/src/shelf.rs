//! What is kept between visits, in the browser's Cache storage. It is absent on plain http, in some private windows
//! and when it is full: keeping is a courtesy, so nothing here fails.

use crate::scope::scope;
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, Response};

pub struct Shelf(Cache);

impl Shelf {
    /// The shelf of a name; none where there is no Cache storage.
    pub async fn open(name: &str) -> Option<Self> {
        let caches = Reflect::get(&scope(), &JsValue::from_str("caches")).ok()?;
        if caches.is_undefined() {
            return None;
        }
        let cache = JsFuture::from(scope().caches().ok()?.open(name)).await.ok()?;
        Some(Shelf(cache.unchecked_into()))
    }

    pub async fn find(&self, url: &str) -> Option<Response> {
        JsFuture::from(self.0.match_with_str(url)).await.ok()?.dyn_into().ok()
    }

    pub async fn discard(&self, url: &str) {
        let _ = JsFuture::from(self.0.delete_with_str(url)).await;
    }

    pub async fn keep(&self, url: &str, bytes: &[u8]) {
        if let Ok(response) = Response::new_with_opt_buffer_source(Some(&Uint8Array::from(bytes))) {
            let _ = JsFuture::from(self.0.put_with_str(url, &response)).await;
        }
    }
}
