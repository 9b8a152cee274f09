//! Finds GPUs, describes them, and detects their kind.

use super::super::AdapterKind;
use wgpu::{Adapter, AdapterInfo, Backend, DeviceType, Instance};

/// Returns the adapter with this index or, in a browser, the adapter that the browser chooses.
///
/// # Errors
/// Returns a message that lists the adapters if there is none with this index.
pub async fn find(index: usize) -> Result<Adapter, String> {
    let instance = Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    if cfg!(target_arch = "wasm32") {
        let power_preference = wgpu::PowerPreference::HighPerformance;
        let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
        return instance.request_adapter(&options).await.map_err(|error| error.to_string());
    }
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let infos: Vec<AdapterInfo> = adapters.iter().map(Adapter::get_info).collect();
    let order = order(&infos);
    match order.get(index) {
        Some(&chosen) => Ok(adapters.swap_remove(chosen)),
        None => {
            let names: Vec<&str> = order.iter().map(|&index| infos[index].name.as_str()).collect();
            Err(match names.as_slice() {
                [] => "no GPU adapter was found".to_owned(),
                [name] => format!("the only adapter is {name}"),
                names => format!("the {} adapters are {}", names.len(), names.join(", ")),
            })
        }
    }
}

/// Returns the adapter's description of itself. In a browser, its name consists of the fields of the device's
/// `adapterInfo`, usually vendor and architecture.
#[cfg(target_arch = "wasm32")]
pub fn info(adapter: &Adapter, device: &wgpu::Device) -> AdapterInfo {
    use js_sys::Reflect;
    use wasm_bindgen::JsValue;
    // Older browsers do not have this property of devices.
    let info = device.as_webgpu().and_then(|device| Reflect::get(device.as_ref(), &"adapterInfo".into()).ok());
    let info = info.filter(JsValue::is_object).unwrap_or_default();
    let fields = ["vendor", "architecture", "device", "description"];
    let names = fields.into_iter().filter_map(|field| Reflect::get(&info, &field.into()).ok()?.as_string());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    AdapterInfo { name: names.join(" "), ..adapter.get_info() }
}

#[cfg(not(target_arch = "wasm32"))]
pub fn info(adapter: &Adapter, _: &wgpu::Device) -> AdapterInfo {
    adapter.get_info()
}

/// Returns the indices of the adapters, the best first, so that index 0 is what users call "the GPU". Each device
/// occurs with its best backend only, and emulated devices are last.
fn order(adapters: &[AdapterInfo]) -> Vec<usize> {
    let is_best = |&index: &usize| !has_better_backend(&adapters[index], adapters);
    let mut order: Vec<usize> = (0..adapters.len()).filter(is_best).collect();
    // The sort is stable: adapters of the same type stay in the driver's order.
    order.sort_by_key(|&index| match adapters[index].device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu | DeviceType::Other => 2,
        DeviceType::Cpu => 3,
    });
    order
}

/// Returns whether the list has the same device with a better backend.
fn has_better_backend(adapter: &AdapterInfo, all: &[AdapterInfo]) -> bool {
    let rank = |backend: Backend| match backend {
        Backend::Vulkan | Backend::Metal => 0,
        _ => 1,
    };
    let identity = |adapter: &AdapterInfo| (adapter.vendor, adapter.device);
    all.iter().any(|other| identity(other) == identity(adapter) && rank(other.backend) < rank(adapter.backend))
}

/// Returns a description for users: name, backend, and whether the GPU is emulated.
pub fn describe(info: &AdapterInfo) -> String {
    let name = if info.name.is_empty() { "the browser's adapter" } else { info.name.as_str() };
    let backend = match info.backend {
        Backend::BrowserWebGpu => String::new(),
        backend => format!(", {backend:?}"),
    };
    let emulated = if info.device_type == DeviceType::Cpu { ", a processor that emulates a GPU" } else { "" };
    format!("{name}{backend}{emulated}")
}

/// PCI vendor IDs of GPUs with fast workgroup memory: NVIDIA, AMD, Qualcomm.
const TILED_VENDORS: [u32; 3] = [0x10de, 0x1002, 0x5143];
/// Parts of the names of such GPUs, for browsers, which report no vendor IDs.
const TILED_NAMES: [&str; 6] = ["nvidia", "geforce", "amd", "radeon", "qualcomm", "adreno"];

impl AdapterKind {
    /// Detects the kind of an adapter.
    pub fn from_info(info: &AdapterInfo) -> Self {
        AdapterKind::classify(info.device_type, info.vendor, &format!("{} {}", info.name, info.driver))
    }

    fn classify(device_type: DeviceType, vendor: u32, name: &str) -> Self {
        let name = name.to_lowercase();
        let is_tiled_name = || TILED_NAMES.iter().any(|part| name.contains(part));
        if device_type == DeviceType::Cpu || AdapterKind::is_software_name(&name) {
            AdapterKind::Software
        } else if TILED_VENDORS.contains(&vendor) || (vendor == 0 && is_tiled_name()) {
            AdapterKind::Tiled
        } else {
            AdapterKind::Direct
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, device: u32, device_type: DeviceType, backend: Backend) -> AdapterInfo {
        AdapterInfo { name: name.to_owned(), device, ..AdapterInfo::new(device_type, backend) }
    }

    #[test]
    fn adapters_are_sorted_and_duplicates_removed() {
        let adapters = [
            info("emulated", 1, DeviceType::Cpu, Backend::Vulkan),
            info("integrated", 2, DeviceType::IntegratedGpu, Backend::Vulkan),
            info("discrete", 3, DeviceType::DiscreteGpu, Backend::Dx12),
            info("discrete", 3, DeviceType::DiscreteGpu, Backend::Vulkan),
            info("its twin", 3, DeviceType::DiscreteGpu, Backend::Vulkan),
        ];
        assert_eq!(order(&adapters), [3, 4, 1, 0]);
    }

    #[test]
    fn description_says_whether_the_gpu_is_emulated() {
        let emulated = describe(&info("llvmpipe", 0, DeviceType::Cpu, Backend::Vulkan));
        assert_eq!(emulated, "llvmpipe, Vulkan, a processor that emulates a GPU");
        assert_eq!(describe(&info("", 0, DeviceType::Other, Backend::BrowserWebGpu)), "the browser's adapter");
    }

    #[test]
    fn kind_is_detected_by_vendor_or_name() {
        use DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other};
        for (device_type, vendor, name, kind) in [
            (Cpu, 0x10005, "llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software),
            (Other, 0, "Google SwiftShader", AdapterKind::Software),
            (DiscreteGpu, 0x10de, "NVIDIA H100", AdapterKind::Tiled),
            (IntegratedGpu, 0x1002, "AMD Radeon Graphics (RADV RENOIR)", AdapterKind::Tiled),
            (Other, 0, "Adreno (TM) 740", AdapterKind::Tiled),
            (Other, 0, "nvidia ampere", AdapterKind::Tiled),
            (Other, 0, "google swiftshader", AdapterKind::Software),
            (IntegratedGpu, 0x8086, "Intel(R) UHD Graphics", AdapterKind::Direct),
            (IntegratedGpu, 0, "Apple M2", AdapterKind::Direct),
            (Other, 0, "", AdapterKind::Direct),
        ] {
            assert_eq!(AdapterKind::classify(device_type, vendor, name), kind, "{name}");
        }
    }
}
