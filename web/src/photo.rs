//! A photo that the visitor has added: its file, and a URL for displaying it.

use js_sys::ArrayBuffer;
use std::rc::Rc;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Url};

/// A photo that is cheap to clone. Its object URL is revoked when the last clone is dropped.
#[derive(Clone)]
pub struct PhotoFile(Rc<PhotoFileData>);

struct PhotoFileData {
    name: String,
    blob: Blob,
    object_url: String,
}

impl PhotoFile {
    pub fn new(name: &str, blob: Blob) -> Self {
        let object_url = Url::create_object_url_with_blob(&blob).unwrap_or_default();
        PhotoFile(Rc::new(PhotoFileData { name: name.to_owned(), blob, object_url }))
    }

    /// Returns the file name, for display.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn blob(&self) -> &Blob {
        &self.0.blob
    }

    /// Returns a URL for `<img src>`.
    pub fn url(&self) -> &str {
        &self.0.object_url
    }
}

impl Drop for PhotoFileData {
    fn drop(&mut self) {
        let _ = Url::revoke_object_url(&self.object_url);
    }
}

/// Returns the bytes of a file. The browser reads them off the main thread.
///
/// # Errors
/// Returns an error if the file is a folder or no longer exists.
pub async fn read_bytes(blob: &Blob) -> Result<ArrayBuffer, JsValue> {
    JsFuture::from(blob.array_buffer()).await?.dyn_into()
}
