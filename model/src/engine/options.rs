//! Options of an engine.

use super::cpu::InstructionSet;
use super::device::Device;
use super::error::EngineError;
use super::precision::Precision;
use std::num::{NonZero, ParseIntError};
use std::str::FromStr;

/// Options of an engine. The engine chooses a value for each option that is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Device `cpu`: number of threads, by default the number of cores. In WebAssembly, there is always one thread.
    pub threads: Option<NonZero<usize>>,
    /// Device `cpu`: instruction set, by default the fastest one of the processor.
    pub instruction_set: Option<InstructionSet>,
    /// Precision of the factors of convolutions, which not every device supports.
    pub precision: Precision,
    /// Device `webgpu`: uses the kernels for this kind of GPU instead of those for the detected kind.
    pub adapter_kind: Option<AdapterKind>,
    /// Device `webgpu`: height and width of the most frequent images, in pixels. The format of the weights is chosen
    /// for this size. By default the size in the checkpoint's preprocessing if there is a checkpoint, and otherwise
    /// 224, for which most networks are trained.
    pub nominal_side: Option<usize>,
}

impl EngineOptions {
    /// Returns an error if the device does not support the precision on any machine.
    pub(super) fn check(&self, device: Device) -> Result<(), EngineError> {
        let supported = match self.precision {
            Precision::F32 => true,
            Precision::Bf16 => device == Device::Cpu,
            Precision::F16 => matches!(device, Device::WebGpu(_)),
        };
        if supported { Ok(()) } else { Err(EngineError::UnsupportedPrecision(self.precision)) }
    }
}

/// Maximum number of threads per processor. More threads would only wait for each other.
const MAX_THREADS_PER_PROCESSOR: usize = 4;

/// Parses a number of threads from the command line.
///
/// # Errors
/// Returns an error if `text` is not a positive integer, or if it exceeds four times the number of processors.
pub fn parse_thread_count(text: &str) -> Result<NonZero<usize>, String> {
    let threads: NonZero<usize> = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let max = MAX_THREADS_PER_PROCESSOR * processors;
    if threads.get() > max {
        return Err(format!("must be at most {max} ({MAX_THREADS_PER_PROCESSOR} threads per processor)"));
    }
    Ok(threads)
}

/// Kind of GPU for which the kernels of the device `webgpu` are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A GPU emulated on a processor. Kernels use every value that they read for many products, because barriers are
    /// slow and few invocations run at the same time.
    Software,
    /// A GPU whose caches are as fast as its workgroup memory, or an unknown GPU.
    Direct,
    /// A GPU with fast workgroup memory.
    Tiled,
}

/// Parts of the names of GPUs that are emulated on a processor by Mesa, Chromium or Windows.
const SOFTWARE_NAMES: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "basic render"];

impl AdapterKind {
    /// Returns whether the names of an adapter, in any case, are those of a GPU emulated on a processor.
    pub fn is_software_name(names: &str) -> bool {
        let names = names.to_lowercase();
        SOFTWARE_NAMES.iter().any(|software| names.contains(software))
    }
}

/// Error of parsing an [`AdapterKind`].
#[derive(Debug, thiserror::Error)]
#[error("unknown kind of GPU {0:?}; valid kinds are software, direct and tiled")]
pub struct UnknownAdapterKind(String);

impl FromStr for AdapterKind {
    type Err = UnknownAdapterKind;

    fn from_str(name: &str) -> Result<Self, UnknownAdapterKind> {
        match name {
            "software" => Ok(AdapterKind::Software),
            "direct" => Ok(AdapterKind::Direct),
            "tiled" => Ok(AdapterKind::Tiled),
            _ => Err(UnknownAdapterKind(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_counts_must_be_positive_and_limited() {
        assert_eq!(parse_thread_count("2"), Ok(NonZero::new(2).unwrap()));
        assert!(parse_thread_count("99999").unwrap_err().starts_with("must be at most"));
        ["0", "-1", "many"].into_iter().for_each(|text| assert!(parse_thread_count(text).is_err(), "{text}"));
    }
}
