//! Keeps files between visits in the browser's Cache storage. The storage is unavailable on plain http and in some
//! private windows, and it can be full. Since caching is optional, no operation in this module reports an error.

use crate::scope::scope;
use js_sys::Reflect;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Cache, Response};

pub struct CacheStore(Cache);

impl CacheStore {
    /// Opens the cache with this name. Returns `None` if Cache storage is unavailable.
    pub async fn open(name: &str) -> Option<Self> {
        let caches = Reflect::get(&scope(), &JsValue::from_str("caches")).ok()?;
        if caches.is_undefined() {
            return None;
        }
        let cache = JsFuture::from(scope().caches().ok()?.open(name)).await.ok()?;
        Some(CacheStore(cache.unchecked_into()))
    }

    pub async fn get(&self, url: &str) -> Option<Response> {
        JsFuture::from(self.0.match_with_str(url)).await.ok()?.dyn_into().ok()
    }

    pub async fn delete(&self, url: &str) {
        let _ = JsFuture::from(self.0.delete_with_str(url)).await;
    }

    /// Stores a response while the caller reads its body. The returned future completes when the response is stored.
    pub fn put(&self, url: &str, response: &Response) -> impl Future<Output = ()> + use<> {
        // Cloned before the future is polled: a response cannot be cloned once its body has been read.
        let stored = response.clone().map(|copy| self.0.put_with_str(url, &copy));
        async move {
            if let Ok(stored) = stored {
                let _ = JsFuture::from(stored).await;
            }
        }
    }

    pub async fn put_text(&self, url: &str, text: &str) {
        if let Ok(response) = Response::new_with_opt_str(Some(text)) {
            let _ = JsFuture::from(self.0.put_with_str(url, &response)).await;
        }
    }
}
