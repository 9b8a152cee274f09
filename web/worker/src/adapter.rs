//! What the browser says of its adapter for WebGPU, read before any engine touches it.

use crate::scope::scope;
use js_sys::{Function, Object, Promise, Reflect};
use std::fmt;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// Adapters that compute on the processor, by what their names hold in lower case: Chromium's, Mesa's and Windows'.
const SOFTWARE: [&str; 4] = ["swiftshader", "llvmpipe", "lavapipe", "basic render"];

/// An adapter by the names that the browser gives it; any of them may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    vendor: String,
    architecture: String,
    device: String,
    description: String,
    /// Whether the browser itself calls it a last resort.
    fallback: bool,
}

impl Adapter {
    /// The one that an engine would get. None where the browser has none, or tells nothing of it.
    pub async fn look() -> Option<Self> {
        let gpu = property(&scope(), "navigator").and_then(|navigator| property(&navigator, "gpu"))?;
        let request: Function = property(&gpu, "requestAdapter")?.dyn_into().ok()?;
        let options = Object::new();
        Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
        let promise: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
        let adapter = JsFuture::from(promise).await.ok().filter(JsValue::is_object)?;
        let info = property(&adapter, "info")?;
        let name = |name| property(&info, name).and_then(|name| name.as_string()).unwrap_or_default();
        // A property of the adapter first, of its description in today's standard.
        let fallback = |of| property(of, "isFallbackAdapter").is_some_and(|fallback| fallback.is_truthy());
        Some(Adapter {
            vendor: name("vendor"),
            architecture: name("architecture"),
            device: name("device"),
            description: name("description"),
            fallback: fallback(&adapter) || fallback(&info),
        })
    }

    /// Whether it is emulated on the processor, where our own engine for that is faster.
    pub fn is_software(&self) -> bool {
        let names = self.to_string().to_lowercase();
        self.fallback || SOFTWARE.iter().any(|software| names.contains(software))
    }
}

/// All its names, which tell it from others.
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Adapter { vendor, architecture, device, description, .. } = self;
        write!(f, "{vendor}/{architecture}/{device}/{description}")
    }
}

/// None if it is absent, undefined or null.
fn property(of: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(of, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}
