//! Pipelines compiled by the browser's `createComputePipelineAsync`, which wgpu lacks: its `create_compute_pipeline` makes
//! the browser's GPU process compile before it does anything else, for this page or another.
//!
//! What comes out cannot be handed to wgpu. But browsers keep modules, layouts and pipelines by content while somebody
//! holds them (Dawn does; others may compile twice, no worse than before), so that the same asked for by wgpu is there
//! at once.

use super::pipelines::read_only;
use super::shaders::Kernel;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// `GPUShaderStage.COMPUTE`
const COMPUTE: u32 = 4;

/// What keeps the pipelines in the browser's mind.
pub struct Held(#[expect(dead_code, reason = "held, not read")] Vec<JsValue>);

/// # Errors
/// What the browser says against a kernel.
pub async fn compile(device: &wgpu::Device, kernels: &[&Kernel]) -> Result<Held, String> {
    let Some(device) = device.as_webgpu() else { return Ok(Held(Vec::new())) };
    let device: &JsValue = device.as_ref();
    let started: Result<Vec<Promise>, JsValue> = kernels.iter().map(|kernel| start(device, kernel)).collect();
    let mut held = Vec::with_capacity(kernels.len());
    for pipeline in started.map_err(words)? {
        held.push(JsFuture::from(pipeline).await.map_err(words)?);
    }
    Ok(Held(held))
}

/// The same as wgpu will ask for: the browser compares.
fn start(device: &JsValue, kernel: &Kernel) -> Result<Promise, JsValue> {
    let entries = (0u32..).zip(read_only(kernel.reads, kernel.checked)).map(|(binding, read_only)| {
        let kind = if read_only { "read-only-storage" } else { "storage" };
        let buffer = object(&[("type", kind.into())]);
        object(&[("binding", binding.into()), ("visibility", COMPUTE.into()), ("buffer", buffer)])
    });
    let entries = object(&[("entries", entries.collect::<Array>().into())]);
    let groups = call(device, "createBindGroupLayout", entries)?;
    let groups = object(&[("bindGroupLayouts", Array::of1(&groups).into())]);
    let layout = call(device, "createPipelineLayout", groups)?;
    let module = call(device, "createShaderModule", object(&[("code", kernel.source.as_str().into())]))?;
    let pipeline = object(&[("layout", layout), ("compute", object(&[("module", module)]))]);
    Ok(call(device, "createComputePipelineAsync", pipeline)?.unchecked_into())
}

fn object(members: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in members {
        // A plain object takes every member.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object.into()
}

fn call(device: &JsValue, method: &str, argument: JsValue) -> Result<JsValue, JsValue> {
    let method: Function = Reflect::get(device, &method.into())?.dyn_into()?;
    method.call1(device, &argument)
}

fn words(thrown: JsValue) -> String {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    message.unwrap_or_else(|| format!("{thrown:?}"))
}
