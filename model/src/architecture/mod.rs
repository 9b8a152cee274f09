//! The single table of architectures: variants, stems, blocks, stages, parameter names.
//!
//! The Burn network, the plan, parameter counts, FLOPs and the validation of checkpoints derive from the layers that
//! [`Architecture::stem`] and [`Architecture::stages`] return; there is no second list of layers. Names and numbers
//! follow torchvision's `resnet.py`.

mod channel_groups;
mod layers;
mod modules;
mod tensors;
mod widths;

pub use channel_groups::{ChannelGroup, ConvolutionChannels};
pub use layers::{Convolution, MaxPool, ResidualBlock, StemLayers};
pub use tensors::{TensorKind, TensorSpec};
pub use widths::Widths;

use serde::{Deserialize, Serialize};
use std::fmt;
use widths::WidthsRecord;

/// The two residual blocks of He et al. (2015), <https://arxiv.org/abs/1512.03385>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// A 1x1 convolution to the block's width, a 3x3 convolution, and a 1x1 convolution to four times the planes.
    Bottleneck,
}

impl Block {
    /// Returns the ratio of a block's output channels to its planes.
    const fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// A variant of the networks: a row of [`VARIANTS`].
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// Name of torchvision's constructor.
    pub name: &'static str,
    pub block: Block,
    /// Number of blocks in each of the four stages.
    pub depths: [usize; 4],
    /// Number of groups of a bottleneck's 3x3 convolution.
    pub groups: usize,
    /// Number of channels per group in the first stage.
    pub width_per_group: usize,
}

const fn variant(
    name: &'static str,
    block: Block,
    depths: [usize; 4],
    groups: usize,
    width_per_group: usize,
) -> Variant {
    Variant { name, block, depths, groups, width_per_group }
}

/// All variants.
#[rustfmt::skip]
pub static VARIANTS: [Variant; 10] = [
    variant("resnet18",         Block::Basic,      [2, 2, 2, 2],   1,  64),
    variant("resnet34",         Block::Basic,      [3, 4, 6, 3],   1,  64),
    variant("resnet50",         Block::Bottleneck, [3, 4, 6, 3],   1,  64),
    variant("resnet101",        Block::Bottleneck, [3, 4, 23, 3],  1,  64),
    variant("resnet152",        Block::Bottleneck, [3, 8, 36, 3],  1,  64),
    variant("resnext50_32x4d",  Block::Bottleneck, [3, 4, 6, 3],   32, 4),
    variant("resnext101_32x8d", Block::Bottleneck, [3, 4, 23, 3],  32, 8),
    variant("resnext101_64x4d", Block::Bottleneck, [3, 4, 23, 3],  64, 4),
    variant("wide_resnet50_2",  Block::Bottleneck, [3, 4, 6, 3],   1,  128),
    variant("wide_resnet101_2", Block::Bottleneck, [3, 4, 23, 3],  1,  128),
];

/// Epsilon added to a batch norm's variance before the square root.
pub const NORM_EPSILON: f64 = 1e-5;

/// The layers before the first stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A 7x7 convolution with stride 2, then a 3x3 max-pool with stride 2, for photos.
    #[default]
    Imagenet,
    /// Like [`Stem::Imagenet`], with stride 1 in the convolution.
    ImagenetStride1,
    /// A 3x3 convolution with stride 1 and no pool, for images of 32x32.
    Small,
}

/// The convolution of a bottleneck that halves the resolution. Names and shapes of the weights do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StridePlacement {
    /// "v1.5": the 3x3 convolution, as in torchvision.
    #[default]
    Middle,
    /// "v1": the first 1x1 convolution, as in the paper, Caffe and Keras.
    First,
}

/// Suffix of the names of architectures with [`StridePlacement::First`].
const V1_SUFFIX: &str = "_v1";

/// A variant with its stem, its number of classes and its widths, which determine the shapes of all tensors.
///
/// ```
/// use model::architecture::Architecture;
///
/// let resnet50 = Architecture::new("resnet50", 1000)?;
/// assert_eq!(resnet50.parameter_count(), 25_557_032);
/// assert_eq!(resnet50.tensors()[0].name, "conv1.weight");
/// assert_eq!(resnet50.tensors()[0].shape, [64, 3, 7, 7]);
/// # Ok::<(), model::architecture::ArchitectureError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ArchitectureRecord", into = "ArchitectureRecord")]
pub struct Architecture {
    pub variant: &'static Variant,
    pub stride_placement: StridePlacement,
    pub stem: Stem,
    pub classes: usize,
    /// Numbers of channels of a pruned network, which [`Architecture::with_widths`] sets; `None` for those of the variant.
    pub widths: Option<Widths>,
}

/// The serialised form of an [`Architecture`] in a checkpoint's metadata.
#[derive(Serialize, Deserialize)]
struct ArchitectureRecord {
    name: String,
    #[serde(default)]
    stem: Stem,
    classes: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    widths: Option<WidthsRecord>,
}

impl From<Architecture> for ArchitectureRecord {
    fn from(architecture: Architecture) -> Self {
        let Architecture { variant, stem, classes, widths, .. } = architecture;
        let widths = widths.map(|widths| widths.to_record(variant));
        ArchitectureRecord { name: architecture.name(), stem, classes, widths }
    }
}

impl TryFrom<ArchitectureRecord> for Architecture {
    type Error = ArchitectureError;

    fn try_from(record: ArchitectureRecord) -> Result<Self, ArchitectureError> {
        let architecture = Architecture { stem: record.stem, ..Architecture::new(&record.name, record.classes)? };
        match record.widths {
            Some(widths) => architecture.with_widths(Widths::from_record(widths, architecture.variant)?),
            None => Ok(architecture),
        }
    }
}

/// Error of creating an architecture from an unknown name, an invalid number of classes or invalid widths.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchitectureError {
    #[error("unknown architecture {0:?}; known are {known}", known = Architecture::names().join(", "))]
    UnknownName(String),
    #[error("invalid number of classes {0}: must be from 1 to {max}", max = Architecture::MAX_CLASSES)]
    Classes(usize),
    #[error(
        "invalid width {found} of {group}: must be a multiple of {multiple}, and at most {max}",
        multiple = Widths::MULTIPLE
    )]
    InvalidWidth { group: ChannelGroup, found: usize, max: usize },
    #[error("invalid widths: {found} widths inside blocks, but the network needs {expected}")]
    WidthCount { found: usize, expected: usize },
    #[error("invalid widths: conv1 has {stem} channels, and layer1, to which they are added, has {stage}")]
    TiedWidths { stem: usize, stage: usize },
    #[error("invalid width {found}: {group} must be {expected}, because its channels form groups")]
    GroupedWidth { group: ChannelGroup, found: usize, expected: usize },
}

impl Architecture {
    /// Maximum number of classes; a larger number is assumed to be a mistake (ImageNet-21k has 21,841).
    pub const MAX_CLASSES: usize = 1 << 20;

    /// Returns the architecture of torchvision's name, or of that name with `_v1` for a bottleneck variant with the
    /// stride on its first 1x1 convolution. The stem is [`Stem::Imagenet`].
    ///
    /// # Errors
    /// Returns an error if the name is unknown, or if the number of classes is zero or above
    /// [`Architecture::MAX_CLASSES`].
    pub fn new(name: &str, classes: usize) -> Result<Self, ArchitectureError> {
        if classes == 0 || classes > Self::MAX_CLASSES {
            return Err(ArchitectureError::Classes(classes));
        }
        let unknown = || ArchitectureError::UnknownName(name.to_owned());
        let (base, stride_placement) = match name.strip_suffix(V1_SUFFIX) {
            Some(base) => (base, StridePlacement::First),
            None => (name, StridePlacement::Middle),
        };
        let variant = VARIANTS.iter().find(|variant| variant.name == base).ok_or_else(unknown)?;
        if stride_placement == StridePlacement::First && variant.block == Block::Basic {
            return Err(unknown());
        }
        Ok(Architecture { variant, stride_placement, stem: Stem::Imagenet, classes, widths: None })
    }

    /// Returns the name that [`Architecture::new`] accepts.
    pub fn name(&self) -> String {
        match self.stride_placement {
            StridePlacement::Middle => self.variant.name.to_owned(),
            StridePlacement::First => format!("{}{V1_SUFFIX}", self.variant.name),
        }
    }

    /// Returns all names that [`Architecture::new`] accepts.
    pub fn names() -> Vec<String> {
        let v1 = VARIANTS.iter().filter(|variant| variant.block == Block::Bottleneck);
        let v1 = v1.map(|variant| format!("{}{V1_SUFFIX}", variant.name));
        VARIANTS.iter().map(|variant| variant.name.to_owned()).chain(v1).collect()
    }
}

/// Formats the name, preceded by "pruned" if channels have been removed.
impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_pruned() { "pruned " } else { "" }, self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_json() {
        for name in Architecture::names() {
            let architecture = Architecture { stem: Stem::Small, ..Architecture::new(&name, 10).unwrap() };
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), architecture, "{json}");
        }
    }

    #[test]
    fn widths_round_trip_through_json_and_are_checked() {
        let architecture = Architecture::new("resnet50", 10).unwrap();
        let mut widths = architecture.widths();
        widths.set(ChannelGroup::Stem, 48);
        widths.set(ChannelGroup::Inner { stage: 3, block: 2, convolution: 1 }, 32);
        let pruned = architecture.with_widths(widths).unwrap();
        let json = serde_json::to_string(&pruned).unwrap();
        assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), pruned, "{json}");
        assert_eq!((pruned.name(), pruned.to_string()), ("resnet50".to_owned(), "pruned resnet50".to_owned()));
        for (from, to, expected) in [
            (r#""stem":48"#, r#""stem":70000"#, "invalid width 70000 of conv1"),
            (r#",32]"#, r#",40]"#, "invalid width 40 of layer4.2.conv2"),
            (r#",32]"#, r#"]"#, "31 widths inside blocks, but the network needs 32"),
            (r#",32]"#, r#",32],"heads":8"#, "unknown field `heads`"),
        ] {
            assert!(json.contains(from), "{json}");
            let error = serde_json::from_str::<Architecture>(&json.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn rejects_unknown_names_and_zero_classes() {
        for name in ["resnet19", "resnet18_v1", "", "resnet50_v1_v1"] {
            let error = Architecture::new(name, 1000).unwrap_err();
            assert_eq!(error, ArchitectureError::UnknownName(name.to_owned()));
            assert!(error.to_string().contains("resnet50_v1"), "{error}");
        }
        assert_eq!(Architecture::new("resnet18", 0), Err(ArchitectureError::Classes(0)));
    }
}
