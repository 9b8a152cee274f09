//! The formats of exported files, and the networks that each of them can express.

use anyhow::{Result, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use model::architecture::{Architecture, Stem, StridePlacement};

/// A format of exported files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Onnx,
    TorchScript,
    Pth,
    Safetensors,
    Timm,
    Hub,
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Onnx, Self::TorchScript, Self::Pth, Self::Safetensors, Self::Timm, Self::Hub]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Format::Onnx => "an ONNX file, for ONNX Runtime, OpenVINO, TensorRT and others",
            Format::TorchScript => "an archive for torch.jit.load",
            Format::Pth => "torchvision's state dict for torch.load(weights_only=True)",
            Format::Safetensors => "torchvision's state dict as safetensors",
            Format::Timm => "a folder for timm.create_model('local-dir:PATH')",
            Format::Hub => {
                "a folder for Hugging Face: model card, checkpoint, ONNX, TorchScript, and timm's config.json if timm has \
                            the network"
            }
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}

impl Format {
    /// Returns the name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Onnx => "onnx",
            Format::TorchScript => "torchscript",
            Format::Pth => "pth",
            Format::Safetensors => "safetensors",
            Format::Timm => "timm",
            Format::Hub => "hub",
        }
    }

    /// Returns whether the output is a folder instead of a file.
    pub const fn is_folder(self) -> bool {
        matches!(self, Format::Timm | Format::Hub)
    }

    /// Returns whether the format contains the operations of the network, so that it can express any network. The others
    /// contain weights, and the program that loads them contains the operations.
    const fn contains_operations(self) -> bool {
        matches!(self, Format::Onnx | Format::TorchScript | Format::Hub)
    }

    /// Checks that a program that loads the file computes the same as this network.
    ///
    /// # Errors
    /// Returns an error with the reason, and the formats that can express the network, otherwise.
    pub fn check(self, architecture: &Architecture) -> Result<()> {
        if self.contains_operations() {
            return Ok(());
        }
        let program = if self == Format::Timm { "timm" } else { "torchvision" };
        let variant = architecture.variant.name;
        let reason = match (architecture.stride_placement, architecture.stem) {
            (StridePlacement::First, _) => format!(
                "{architecture} has the strides of its bottlenecks on the first 1x1 convolutions, but {program}'s {variant} \
                 has them on the 3x3 convolutions, and would load the weights and answer differently"
            ),
            (_, Stem::ImagenetStride1) => format!(
                "the stem of this network has stride 1, but that of {program}'s {variant} has stride 2, and it would load \
                 the weights and answer differently"
            ),
            (_, Stem::Small) => format!(
                "this network has a small stem (a 3x3 convolution without max-pooling), which {program}'s {variant} does \
                 not have"
            ),
            (StridePlacement::Middle, Stem::Imagenet) => return Ok(()),
        };
        let able =
            Self::value_variants().iter().filter(|format| format.contains_operations()).map(|format| format.name());
        let able = able.collect::<Vec<_>>().join(", ");
        bail!("format {} cannot express this network: {reason}; export it as {able}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_without_operations_reject_networks_that_torchvision_lacks() {
        let architecture = |name: &str, stem| Architecture { stem, ..Architecture::new(name, 10).unwrap() };
        for (architecture, reason) in [
            (architecture("resnet50_v1", Stem::Imagenet), "first 1x1 convolutions"),
            (architecture("resnet18", Stem::Small), "small stem"),
            (architecture("resnet18", Stem::ImagenetStride1), "stride 1"),
        ] {
            for format in [Format::Pth, Format::Safetensors, Format::Timm] {
                let error = format.check(&architecture).unwrap_err().to_string();
                assert!(error.contains(reason) && error.ends_with("export it as onnx, torchscript, hub"), "{error}");
            }
            for format in [Format::Onnx, Format::TorchScript, Format::Hub] {
                format.check(&architecture).unwrap();
            }
        }
        for format in Format::value_variants() {
            format.check(&architecture("resnet50", Stem::Imagenet)).unwrap();
        }
    }
}
