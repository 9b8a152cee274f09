//! What is kept between visits, in the browser's Cache storage. It is absent on plain http, in some private windows
//! and when it is full: keeping is a courtesy, so nothing here fails.

use crate::scope::scope;
use js_sys::Reflect;
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

    /// Keeps what a response will bring. The response can still be read; the future ends with it.
    pub fn keep(&self, url: &str, response: &Response) -> impl Future<Output = ()> + use<> {
        // Asked for now: a response that has been read is not copied any more.
        let kept = response.clone().map(|copy| self.0.put_with_str(url, &copy));
        async move {
            if let Ok(kept) = kept {
                let _ = JsFuture::from(kept).await;
            }
        }
    }

    pub async fn keep_text(&self, url: &str, text: &str) {
        if let Ok(response) = Response::new_with_opt_str(Some(text)) {
            let _ = JsFuture::from(self.0.put_with_str(url, &response)).await;
        }
    }
}
