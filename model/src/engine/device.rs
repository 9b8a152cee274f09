//! Names of devices, which are the same on every command line and as `backend` in predictions.

use std::fmt;
use std::str::FromStr;

/// A device that executes plans: `cpu`, `flex`, `wgpu[:N]`, `cuda[:N]` or `webgpu[:N]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// This crate's CPU engine.
    #[default]
    Cpu,
    /// Burn's CPU backend.
    Flex,
    /// Burn on GPU number N through Vulkan; in a page, on the GPU that the browser selects.
    Wgpu(usize),
    /// Burn on CUDA device number N.
    Cuda(usize),
    /// This crate's WebGPU engine on GPU number N with any graphics API; in a page, on the GPU that the browser
    /// selects.
    WebGpu(usize),
}

/// Error of parsing the name of a device or opening it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    #[error("unknown device {0:?}; valid devices are cpu, webgpu[:N], flex, wgpu[:N] and cuda[:N]")]
    UnknownName(String),
    #[error("this program was built without support for device {0}{hint}", hint = feature_hint(.0))]
    NotCompiledIn(Device),
    #[error("device {device} not found: {reason}")]
    NotFound { device: Device, reason: String },
}

/// Explains which feature enables the device, as the end of an error message.
fn feature_hint(device: &Device) -> &'static str {
    match device {
        Device::Cuda(_) => "; build it with `--features cuda`",
        Device::Wgpu(_) => "; build it with `--features wgpu`",
        Device::Flex => "; the features `cuda` and `wgpu` include it",
        Device::WebGpu(_) => "; build it with `--features webgpu`",
        Device::Cpu => "",
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::UnknownName(text.to_owned());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(Device::Cpu),
            ("flex", None) => Ok(Device::Flex),
            ("webgpu", index) => Ok(Device::WebGpu(index.unwrap_or(0))),
            ("wgpu", index) => Ok(Device::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Device::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Flex => f.write_str("flex"),
            Device::Wgpu(0) => f.write_str("wgpu"),
            Device::Wgpu(index) => write!(f, "wgpu:{index}"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::WebGpu(0) => f.write_str("webgpu"),
            Device::WebGpu(index) => write!(f, "webgpu:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["cpu", "flex", "wgpu", "wgpu:1", "cuda", "cuda:3", "webgpu", "webgpu:2"] {
            assert_eq!(name.parse::<Device>().unwrap().to_string(), name);
        }
        assert_eq!("cuda:0".parse(), Ok(Device::Cuda(0)));
    }

    #[test]
    fn rejects_unknown_names() {
        for name in ["", "gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert_eq!(name.parse::<Device>(), Err(DeviceError::UnknownName(name.to_owned())));
        }
    }
}
