//! The browser's description of its WebGPU adapter, read before any engine opens a device on it.

use crate::scope::scope;
use crate::timeout::timeout;
use js_sys::{Function, Object, Promise, Reflect};
use model::engine::{AdapterKind, EngineOptions, Precision};
use std::fmt;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// The names and capabilities of an adapter. Browsers may leave any of the names empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterDescription {
    vendor: String,
    architecture: String,
    device: String,
    description: String,
    /// Whether the browser reports the adapter as a fallback adapter.
    fallback: bool,
    /// Whether shaders can use f16.
    f16: bool,
}

/// Time limit for the browser to return an adapter. A browser that takes longer is treated as having none.
const QUERY_TIMEOUT_MS: u32 = 5_000;

impl AdapterDescription {
    /// Returns the adapter that an engine would get, or `None` if the browser has none or does not describe it.
    pub async fn query() -> Option<Self> {
        timeout(QUERY_TIMEOUT_MS, Self::request()).await.flatten()
    }

    async fn request() -> Option<Self> {
        let gpu = property(&scope(), "navigator").and_then(|navigator| property(&navigator, "gpu"))?;
        let request: Function = property(&gpu, "requestAdapter")?.dyn_into().ok()?;
        let options = Object::new();
        Reflect::set(&options, &"powerPreference".into(), &"high-performance".into()).ok()?;
        let promise: Promise = request.call1(&gpu, &options).ok()?.dyn_into().ok()?;
        let adapter = JsFuture::from(promise).await.ok().filter(JsValue::is_object)?;
        let info = property(&adapter, "info")?;
        let name = |name| property(&info, name).and_then(|name| name.as_string()).unwrap_or_default();
        // Older browsers have this property on the adapter, the current standard on its info.
        let fallback = |object| property(object, "isFallbackAdapter").is_some_and(|fallback| fallback.is_truthy());
        Some(AdapterDescription {
            vendor: name("vendor"),
            architecture: name("architecture"),
            device: name("device"),
            description: name("description"),
            fallback: fallback(&adapter) || fallback(&info),
            f16: property(&adapter, "features").is_some_and(|features| set_has(&features, "shader-f16")),
        })
    }

    /// Returns the options for an engine on this adapter: f16 if supported, which halves the memory traffic.
    pub fn options(&self) -> EngineOptions {
        let precision = if self.f16 { Precision::F16 } else { Precision::F32 };
        EngineOptions { precision, ..EngineOptions::default() }
    }

    /// Returns whether the adapter is emulated on the CPU, where our CPU engine is faster.
    pub fn is_software(&self) -> bool {
        self.fallback || AdapterKind::is_software_name(&self.to_string())
    }
}

/// Writes all names, which together identify the adapter.
impl fmt::Display for AdapterDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AdapterDescription { vendor, architecture, device, description, .. } = self;
        write!(f, "{vendor}/{architecture}/{device}/{description}")
    }
}

/// Returns whether a JavaScript set contains `member`.
fn set_has(set: &JsValue, member: &str) -> bool {
    let has = property(set, "has").and_then(|has| has.dyn_into::<Function>().ok());
    has.and_then(|has| has.call1(set, &member.into()).ok()).is_some_and(|has| has.is_truthy())
}

/// Returns a property of a JavaScript object, or `None` if it is absent, undefined or null.
fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}
