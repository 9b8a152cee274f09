//! The names of devices, the same on every command line and as `backend` in answers.

use std::fmt;
use std::str::FromStr;

/// A place where a plan is executed: `cpu`, `flex`, `wgpu[:N]`, `cuda[:N]`, `webgpu[:N]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The engine of our own.
    #[default]
    Cpu,
    /// Burn's CPU backend.
    Flex,
    /// Burn on the N-th GPU through Vulkan; in a page, on the browser's.
    Wgpu(usize),
    /// Burn on the N-th CUDA device.
    Cuda(usize),
    /// The engine of our own on the N-th GPU, whatever it is driven by; in a page, on the browser's.
    WebGpu(usize),
}

/// Why there is no device of a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    #[error("unknown device {0:?}; known are cpu, webgpu[:N], flex, wgpu[:N] and cuda[:N]")]
    UnknownName(String),
    #[error("this program was built without the device {0}{hint}", hint = feature_hint(.0))]
    NotCompiledIn(Device),
    #[error("there is no device {device}: {reason}")]
    Absent { device: Device, reason: String },
}

fn feature_hint(device: &Device) -> &'static str {
    match device {
        Device::Cuda(_) => "; build it with `--features cuda`",
        Device::Wgpu(_) => "; build it with `--features wgpu`",
        Device::Flex => "; it comes with the features `cuda` and `wgpu`",
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
    fn other_names_are_refused() {
        for name in ["", "gpu", "cpu:1", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert_eq!(name.parse::<Device>(), Err(DeviceError::UnknownName(name.to_owned())));
        }
    }
}
