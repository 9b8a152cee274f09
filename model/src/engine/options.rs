//! How an engine computes, where one does not leave that to it.

use super::cpu::InstructionSet;
use super::{Device, EngineError};
use std::fmt;
use std::num::{NonZero, ParseIntError};
use std::str::FromStr;

/// What is left at its default is chosen by the engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// Of the device `cpu`: as many as there are cores, if not given. WebAssembly has one.
    pub threads: Option<NonZero<usize>>,
    /// Of the device `cpu`: the best of the processor, if not given.
    pub instruction_set: Option<InstructionSet>,
    pub precision: Precision,
    /// Of the device `webgpu`: kernels for this kind of GPU, whatever it is.
    pub kernels: Option<AdapterKind>,
    /// Of the device `webgpu`, where it is chosen for them how weights are kept: height and width of the images that are
    /// asked for most. A checkpoint knows its own; otherwise 224, which most networks of today are trained for.
    pub usual_side: Option<usize>,
}

impl EngineOptions {
    /// Fails if the device never has the precision.
    pub(super) fn check(&self, device: Device) -> Result<(), EngineError> {
        let has_precision = match self.precision {
            Precision::F32 => true,
            Precision::Bf16 => device == Device::Cpu,
            Precision::F16 => matches!(device, Device::WebGpu(_)),
        };
        if has_precision { Ok(()) } else { Err(EngineError::Precision(self.precision)) }
    }
}

/// Threads for each processor that may be asked for. More of them only wait for each other.
const MOST_THREADS: usize = 4;

/// A number of threads as somebody types it.
///
/// # Errors
/// For none, and for more than make sense on this machine.
pub fn threads(text: &str) -> Result<NonZero<usize>, String> {
    let threads: NonZero<usize> = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let most = MOST_THREADS * processors;
    if threads.get() > most { Err(format!("at most {most}, {MOST_THREADS} for each processor")) } else { Ok(threads) }
}

/// What kind of GPU the kernels of the device `webgpu` are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A processor that emulates one. What counts is that every value which is read takes part in many products; barriers are
    /// slow, and there are few invocations at a time.
    Software,
    /// A GPU whose caches are as good as its workgroup memory, or that is not known.
    Direct,
    /// A GPU with fast workgroup memory.
    Tiled,
}

/// Words of the names of processors that emulate a GPU: Mesa's, Chromium's and Windows'.
const SOFTWARE_NAMES: [&str; 4] = ["llvmpipe", "lavapipe", "swiftshader", "basic render"];

impl AdapterKind {
    /// Whether an adapter's names, of whatever case, are those of a processor that emulates one.
    pub fn names_software(names: &str) -> bool {
        let names = names.to_lowercase();
        SOFTWARE_NAMES.iter().any(|software| names.contains(software))
    }
}

/// There is no kind of GPU of a name.
#[derive(Debug, thiserror::Error)]
#[error("unknown kind of GPU {0:?}; known are software, direct and tiled")]
pub struct NoAdapterKind(String);

impl FromStr for AdapterKind {
    type Err = NoAdapterKind;

    fn from_str(name: &str) -> Result<Self, NoAdapterKind> {
        match name {
            "software" => Ok(AdapterKind::Software),
            "direct" => Ok(AdapterKind::Direct),
            "tiled" => Ok(AdapterKind::Tiled),
            _ => Err(NoAdapterKind(name.to_owned())),
        }
    }
}

/// What convolutions multiply. Sums are f32 throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    F32,
    /// Of the device `cpu`, where it is faster, on a processor with AVX512-BF16 (the plain instruction set emulates it when
    /// it is chosen by name). The stem, the classifier, which waits for memory, and convolutions by Winograd stay f32.
    Bf16,
    /// Of the device `webgpu`: weights, and on an adapter with `shader-f16` values too. Values beyond 65,504 end in an
    /// error, never in an answer.
    F16,
}

/// There is no precision of a name.
#[derive(Debug, thiserror::Error)]
#[error("unknown precision {0:?}; known are f32, bf16 and f16")]
pub struct NoPrecision(String);

impl FromStr for Precision {
    type Err = NoPrecision;

    fn from_str(name: &str) -> Result<Self, NoPrecision> {
        match name {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "f16" => Ok(Precision::F16),
            _ => Err(NoPrecision(name.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

impl Precision {
    /// What it takes, for who lacks it.
    pub(super) fn takes(self) -> &'static str {
        match self {
            Precision::F32 => "a device",
            Precision::Bf16 => "the device cpu and a processor with AVX512-BF16",
            Precision::F16 => "the device webgpu",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_some_and_not_thousands() {
        assert_eq!(threads("2"), Ok(NonZero::new(2).unwrap()));
        assert!(threads("99999").unwrap_err().starts_with("at most"));
        ["0", "-1", "many"].into_iter().for_each(|text| assert!(threads(text).is_err(), "{text}"));
    }

    #[test]
    fn names_round_trip() {
        for name in ["f32", "bf16", "f16"] {
            assert_eq!(name.parse::<Precision>().unwrap().to_string(), name);
        }
        assert_eq!(
            "fp8".parse::<Precision>().unwrap_err().to_string(),
            "unknown precision \"fp8\"; known are f32, bf16 and f16"
        );
    }
}
