//! Compilation of pipelines with the browser's `createComputePipelineAsync`, which wgpu lacks: wgpu's
//! `create_compute_pipeline` blocks the browser's GPU process, for this page and all others, until the pipeline is
//! compiled.
//!
//! The pipelines compiled here cannot be passed to wgpu. But Chromium's Dawn caches modules, layouts and pipelines by
//! content as long as a handle to them exists, so that wgpu's own request for the same pipeline is answered from the
//! cache. Other browsers may compile twice, which blocks no longer than without this module.

use super::bind_groups::read_only_bindings;
use super::shaders::Kernel;
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// The browser's `GPUShaderStage.COMPUTE`.
const COMPUTE: u32 = 4;

/// Handles that keep compiled pipelines in the browser's cache until they are dropped.
pub struct PipelineHandles(#[expect(dead_code, reason = "held, not read")] Vec<JsValue>);

/// Compiles kernels concurrently, without blocking the browser's GPU process.
///
/// # Errors
/// Returns the browser's message if it rejects a kernel.
pub async fn compile(device: &wgpu::Device, kernels: &[&Kernel]) -> Result<PipelineHandles, String> {
    let Some(device) = device.as_webgpu() else { return Ok(PipelineHandles(Vec::new())) };
    let device: &JsValue = device.as_ref();
    let promises: Result<Vec<Promise>, JsValue> = kernels.iter().map(|kernel| start(device, kernel)).collect();
    let mut handles = Vec::with_capacity(kernels.len());
    for promise in promises.map_err(message)? {
        handles.push(JsFuture::from(promise).await.map_err(message)?);
    }
    Ok(PipelineHandles(handles))
}

/// Starts the compilation of a kernel. All descriptors must equal those that wgpu creates, or the browser's cache
/// misses.
fn start(device: &JsValue, kernel: &Kernel) -> Result<Promise, JsValue> {
    let bindings = (0u32..).zip(read_only_bindings(kernel.reads, kernel.reports_overflow));
    let entries = bindings.map(|(binding, read_only)| {
        let kind = if read_only { "read-only-storage" } else { "storage" };
        let buffer = object(&[("type", kind.into())]);
        object(&[("binding", binding.into()), ("visibility", COMPUTE.into()), ("buffer", buffer)])
    });
    let entries = object(&[("entries", entries.collect::<Array>().into())]);
    let group_layout = call(device, "createBindGroupLayout", entries)?;
    let group_layouts = object(&[("bindGroupLayouts", Array::of1(&group_layout).into())]);
    let layout = call(device, "createPipelineLayout", group_layouts)?;
    let module = call(device, "createShaderModule", object(&[("code", kernel.source.as_str().into())]))?;
    let pipeline = object(&[("layout", layout), ("compute", object(&[("module", module)]))]);
    Ok(call(device, "createComputePipelineAsync", pipeline)?.unchecked_into())
}

fn object(members: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in members {
        // Setting a member of a plain object cannot fail.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object.into()
}

fn call(device: &JsValue, method: &str, argument: JsValue) -> Result<JsValue, JsValue> {
    let method: Function = Reflect::get(device, &method.into())?.dyn_into()?;
    method.call1(device, &argument)
}

/// Returns the message of a thrown value.
fn message(thrown: JsValue) -> String {
    let message = Reflect::get(&thrown, &"message".into()).ok().and_then(|message| message.as_string());
    message.unwrap_or_else(|| format!("{thrown:?}"))
}
