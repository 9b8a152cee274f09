//! How much of a device's memory is taken, by whomever. NVIDIA's GPUs tell; the CPU's is the process's, and other GPUs have
//! nobody to ask.

use model::engine::Device;

/// Bytes that are taken.
#[cfg(feature = "cuda")]
pub fn taken(device: Device) -> Option<u64> {
    use nvml_wrapper::Nvml;
    use std::sync::OnceLock;
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let Device::Cuda(index) = device else { return None };
    let without = |error| tracing::warn!("the memory of GPUs is not known: {error}");
    let nvml = NVML.get_or_init(|| Nvml::init().map_err(without).ok()).as_ref()?;
    Some(nvml.device_by_index(u32::try_from(index).ok()?).ok()?.memory_info().ok()?.used)
}

/// Bytes that are taken.
#[cfg(not(feature = "cuda"))]
pub fn taken(_: Device) -> Option<u64> {
    None
}
