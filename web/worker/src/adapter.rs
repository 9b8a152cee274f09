//! What the browser says of its adapter for WebGPU, read before any engine touches it.

use crate::clock::within;
use crate::scope::scope;
use js_sys::{Function, Object, Promise, Reflect};
use model::engine::{AdapterKind, EngineOptions, Precision};
use std::fmt;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// An adapter by the names that the browser gives it; any of them may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    vendor: String,
    architecture: String,
    device: String,
    description: String,
    /// Whether the browser itself calls it a last resort.
    fallback: bool,
    /// Whether its kernels can use f16.
    f16: bool,
}

/// A browser that does not say by then what it has, has nothing.
const LOOK_MS: u32 = 5_000;

impl Adapter {
    /// The one that an engine would get. None where the browser has none, or tells nothing of it.
    pub async fn look() -> Option<Self> {
        within(LOOK_MS, Self::ask()).await.flatten()
    }

    async fn ask() -> Option<Self> {
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
            f16: property(&adapter, "features").is_some_and(|features| has(&features, "shader-f16")),
        })
    }

    /// How an engine should compute on it: in f16 where it can, which halves what is read.
    pub fn options(&self) -> EngineOptions {
        let precision = if self.f16 { Precision::F16 } else { Precision::F32 };
        EngineOptions { precision, ..EngineOptions::default() }
    }

    /// Whether it is emulated on the processor, where our own engine for that is faster.
    pub fn is_software(&self) -> bool {
        self.fallback || AdapterKind::names_software(&self.to_string())
    }
}

/// All its names, which tell it from others.
impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Adapter { vendor, architecture, device, description, .. } = self;
        write!(f, "{vendor}/{architecture}/{device}/{description}")
    }
}

/// Of a set.
fn has(set: &JsValue, member: &str) -> bool {
    let has = property(set, "has").and_then(|has| has.dyn_into::<Function>().ok());
    has.and_then(|has| has.call1(set, &member.into()).ok()).is_some_and(|has| has.is_truthy())
}

/// None if it is absent, undefined or null.
fn property(of: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(of, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}
