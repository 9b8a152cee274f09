//! A photo in hand: its file, and an address under which the page shows it.

use js_sys::ArrayBuffer;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Url};

/// Cheap to clone; the address is given back with the last of its clones.
#[derive(Clone)]
pub struct Photo(Rc<Held>);

struct Held {
    name: String,
    blob: Blob,
    address: String,
}

impl Photo {
    pub fn new(name: &str, blob: Blob) -> Self {
        let address = Url::create_object_url_with_blob(&blob).unwrap_or_default();
        Photo(Rc::new(Held { name: name.to_owned(), blob, address }))
    }

    /// Of the file; a person reads it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn blob(&self) -> &Blob {
        &self.0.blob
    }

    /// For `<img src>`.
    pub fn address(&self) -> &str {
        &self.0.address
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = Url::revoke_object_url(&self.address);
    }
}

/// A copy of a file's bytes, made by the browser off the page's thread. Fails for folders and for files that are gone.
pub async fn read(blob: &Blob) -> Result<ArrayBuffer, JsValue> {
    JsFuture::from(blob.array_buffer()).await?.dyn_into()
}
