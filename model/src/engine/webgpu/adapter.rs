//! Finding a GPU and saying what it is.

use super::super::AdapterKind;
use wgpu::{Adapter, AdapterInfo, Backend, DeviceType, Instance};

/// The adapter of an index natively; in a browser the one that it gives.
///
/// # Errors
/// Why there is none, in words.
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
                [] => "no adapter was found".to_owned(),
                [name] => format!("there is one adapter: {name}"),
                names => format!("there are {} adapters: {}", names.len(), names.join(", ")),
            })
        }
    }
}

/// What it says of itself. A browser gives it no name but those of its vendor and architecture, and those through its device.
#[cfg(target_arch = "wasm32")]
pub fn info(adapter: &Adapter, device: &wgpu::Device) -> AdapterInfo {
    use js_sys::Reflect;
    use wasm_bindgen::JsValue;
    // A browser of before it was a property of devices has none.
    let told = device.as_webgpu().and_then(|device| Reflect::get(device.as_ref(), &"adapterInfo".into()).ok());
    let told = told.filter(JsValue::is_object).unwrap_or_default();
    let names = ["vendor", "architecture", "device", "description"];
    let names = names.into_iter().filter_map(|name| Reflect::get(&told, &name.into()).ok()?.as_string());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    AdapterInfo { name: names.join(" "), ..adapter.get_info() }
}

#[cfg(not(target_arch = "wasm32"))]
pub fn info(adapter: &Adapter, _: &wgpu::Device) -> AdapterInfo {
    adapter.get_info()
}

/// Which of the adapters count, the best first: each device once, by the backend that comes first for it, and processors
/// that emulate one last, so that index 0 is what a person means by "the GPU".
fn order(adapters: &[AdapterInfo]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..adapters.len()).filter(|&index| !shadowed(&adapters[index], adapters)).collect();
    // Stable: equals stay as the driver lists them.
    order.sort_by_key(|&index| match adapters[index].device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu | DeviceType::Other => 2,
        DeviceType::Cpu => 3,
    });
    order
}

/// Whether the same device is there by a better backend.
fn shadowed(adapter: &AdapterInfo, all: &[AdapterInfo]) -> bool {
    let rank = |backend: Backend| match backend {
        Backend::Vulkan | Backend::Metal => 0,
        _ => 1,
    };
    let identity = |adapter: &AdapterInfo| (adapter.vendor, adapter.device);
    all.iter().any(|other| identity(other) == identity(adapter) && rank(other.backend) < rank(adapter.backend))
}

/// What it is called, how it is driven, and whether it is one at all: for a person who reads a report.
pub fn describe(info: &AdapterInfo) -> String {
    let name = if info.name.is_empty() { "the browser's adapter" } else { info.name.as_str() };
    let backend = match info.backend {
        Backend::BrowserWebGpu => String::new(),
        backend => format!(", {backend:?}"),
    };
    let emulated = if info.device_type == DeviceType::Cpu { ", a processor that emulates a GPU" } else { "" };
    format!("{name}{backend}{emulated}")
}

/// PCI vendors of GPUs with fast workgroup memory: NVIDIA, AMD, Qualcomm.
const TILED_VENDORS: [u32; 3] = [0x10de, 0x1002, 0x5143];
/// Words of their names: browsers tell no vendor's number.
const TILED_NAMES: [&str; 6] = ["nvidia", "geforce", "amd", "radeon", "qualcomm", "adreno"];

impl AdapterKind {
    /// By what an adapter says about itself.
    pub fn of(info: &AdapterInfo) -> Self {
        AdapterKind::named(info.device_type, info.vendor, &format!("{} {}", info.name, info.driver))
    }

    fn named(device_type: DeviceType, vendor: u32, name: &str) -> Self {
        let name = name.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if device_type == DeviceType::Cpu || AdapterKind::names_software(&name) {
            AdapterKind::Software
        } else if TILED_VENDORS.contains(&vendor) || (vendor == 0 && has(&TILED_NAMES)) {
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
    fn the_best_adapter_comes_first_and_each_device_once() {
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
    fn an_emulated_adapter_is_called_so() {
        let emulated = describe(&info("llvmpipe", 0, DeviceType::Cpu, Backend::Vulkan));
        assert_eq!(emulated, "llvmpipe, Vulkan, a processor that emulates a GPU");
        assert_eq!(describe(&info("", 0, DeviceType::Other, Backend::BrowserWebGpu)), "the browser's adapter");
    }

    #[test]
    fn adapters_are_told_apart_by_vendor_or_by_name() {
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
            assert_eq!(AdapterKind::named(device_type, vendor, name), kind, "{name}");
        }
    }
}
