//! The one table of architectures: variants, stems, blocks, stages, parameter names.
//!
//! The Burn network, the plan, parameter counts, FLOPs and the checks of a checkpoint are derived from what
//! [`Architecture::stem`] and [`Architecture::stages`] list; no second list of layers exists anywhere.
//! Names and numbers follow torchvision's `resnet.py`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The two residual blocks of He et al. (2015), <https://arxiv.org/abs/1512.03385>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1 down to the block's width, 3x3, 1x1 up to four times the planes.
    Bottleneck,
}

impl Block {
    /// Channels that leave a block, in units of its planes.
    const fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// torchvision's name of the constructor.
    pub name: &'static str,
    pub block: Block,
    /// Blocks of each of the four stages.
    pub depths: [usize; 4],
    /// Groups of a bottleneck's 3x3 convolution.
    pub groups: usize,
    /// Channels of one group in the first stage.
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

/// Every variant there is.
#[rustfmt::skip]
pub static VARIANTS: [Variant; 9] = [
    variant("resnet18",         Block::Basic,      [2, 2, 2, 2],   1,  64),
    variant("resnet34",         Block::Basic,      [3, 4, 6, 3],   1,  64),
    variant("resnet50",         Block::Bottleneck, [3, 4, 6, 3],   1,  64),
    variant("resnet101",        Block::Bottleneck, [3, 4, 23, 3],  1,  64),
    variant("resnet152",        Block::Bottleneck, [3, 8, 36, 3],  1,  64),
    variant("resnext50_32x4d",  Block::Bottleneck, [3, 4, 6, 3],   32, 4),
    variant("resnext101_32x8d", Block::Bottleneck, [3, 4, 23, 3],  32, 8),
    variant("wide_resnet50_2",  Block::Bottleneck, [3, 4, 6, 3],   1,  128),
    variant("wide_resnet101_2", Block::Bottleneck, [3, 4, 23, 3],  1,  128),
];

/// Added to a batch norm's variance before the square root.
pub const NORM_EPSILON: f64 = 1e-5;

/// Planes of the four stages.
const PLANES: [usize; 4] = [64, 128, 256, 512];

/// What stands before the first stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7x7 convolution with stride 2, then 3x3 max-pool with stride 2: photos.
    #[default]
    Imagenet,
    /// The same with stride 1 in the convolution.
    ImagenetStride1,
    /// 3x3 convolution with stride 1 and no pool: images of 32x32.
    Small,
}

/// Where a bottleneck that halves the resolution has its stride. Names and shapes of the weights are the same for both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StridePlacement {
    /// "v1.5": on the 3x3 convolution, as in torchvision.
    #[default]
    Middle,
    /// "v1": on the first 1x1 convolution, as in the paper, Caffe and Keras.
    First,
}

/// The suffix by which a name asks for [`StridePlacement::First`].
const V1_SUFFIX: &str = "_v1";

/// A variant with its stem and its number of classes: everything that fixes the shapes of all tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Description", into = "Description")]
pub struct Architecture {
    pub variant: &'static Variant,
    pub stride_placement: StridePlacement,
    pub stem: Stem,
    pub classes: usize,
}

/// How an [`Architecture`] is written down in a checkpoint's metadata.
#[derive(Serialize, Deserialize)]
struct Description {
    name: String,
    #[serde(default)]
    stem: Stem,
    classes: usize,
}

impl From<Architecture> for Description {
    fn from(architecture: Architecture) -> Self {
        Description { name: architecture.name(), stem: architecture.stem, classes: architecture.classes }
    }
}

impl TryFrom<Description> for Architecture {
    type Error = ArchitectureError;

    fn try_from(description: Description) -> Result<Self, ArchitectureError> {
        Ok(Architecture { stem: description.stem, ..Architecture::new(&description.name, description.classes)? })
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchitectureError {
    #[error("unknown architecture {0:?}; known are {known}", known = Architecture::names().join(", "))]
    UnknownName(String),
    #[error("{0} classes: between 1 and {max} are possible", max = Architecture::MAX_CLASSES)]
    Classes(usize),
}

/// A convolution without bias and the batch norm behind it. Kernels and strides are square.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Prefix of the convolution's tensor: `layer1.0.conv1`.
    pub name: String,
    /// Prefix of the batch norm's tensors: `layer1.0.bn1`.
    pub norm: String,
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
}

impl Convolution {
    /// `[out_channels, in_channels / groups, kernel, kernel]`
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel, self.kernel]
    }

    /// The side of the output for an input of side `size`.
    pub fn output_size(&self, size: usize) -> usize {
        output_size(size, self.kernel, self.stride, self.padding)
    }
}

/// A max-pool; padding counts as minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl MaxPool {
    pub fn output_size(&self, size: usize) -> usize {
        output_size(size, self.kernel, self.stride, self.padding)
    }
}

fn output_size(size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (size + 2 * padding - kernel) / stride + 1
}

/// The first layers, before stage 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemLayers {
    pub convolution: Convolution,
    pub max_pool: Option<MaxPool>,
}

/// One residual block: its convolutions in order, and the projection of its shortcut where shapes differ.
/// ReLU follows every convolution but the last; the last is added to the shortcut first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidualBlock {
    /// `layer1.0`
    pub name: String,
    pub convolutions: Vec<Convolution>,
    pub downsample: Option<Convolution>,
}

/// What a tensor of a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Of a convolution or of the classifier: the bulk, and what int8 applies to.
    Matrix,
    /// Scale or shift of a batch norm, or the classifier's bias.
    Vector,
    /// Running mean or variance of a batch norm: kept, but not trained.
    Statistic,
}

/// Name and shape of a tensor in torchvision's state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: TensorKind,
}

impl Architecture {
    /// More would be no classifier but a mistake (ImageNet-21k has 21,841).
    pub const MAX_CLASSES: usize = 1 << 20;

    /// By torchvision's name, or that name with `_v1` for a bottleneck variant whose stride sits on the first 1x1.
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
        Ok(Architecture { variant, stride_placement, stem: Stem::Imagenet, classes })
    }

    /// The name that [`Architecture::new`] takes.
    pub fn name(&self) -> String {
        match self.stride_placement {
            StridePlacement::Middle => self.variant.name.to_owned(),
            StridePlacement::First => format!("{}{V1_SUFFIX}", self.variant.name),
        }
    }

    /// Every name that [`Architecture::new`] takes.
    pub fn names() -> Vec<String> {
        let v1 = VARIANTS.iter().filter(|variant| variant.block == Block::Bottleneck);
        let v1 = v1.map(|variant| format!("{}{V1_SUFFIX}", variant.name));
        VARIANTS.iter().map(|variant| variant.name.to_owned()).chain(v1).collect()
    }

    pub fn stem(&self) -> StemLayers {
        let (kernel, stride) = match self.stem {
            Stem::Imagenet => (7, 2),
            Stem::ImagenetStride1 => (7, 1),
            Stem::Small => (3, 1),
        };
        let max_pool = match self.stem {
            Stem::Imagenet | Stem::ImagenetStride1 => Some(MaxPool { kernel: 3, stride: 2, padding: 1 }),
            Stem::Small => None,
        };
        StemLayers { convolution: convolution("", "conv1", "bn1", 3, PLANES[0], kernel, stride, 1), max_pool }
    }

    /// The blocks of the four stages, torchvision's `layer1` to `layer4`.
    pub fn stages(&self) -> [Vec<ResidualBlock>; 4] {
        let mut in_channels = PLANES[0];
        std::array::from_fn(|stage| {
            (0..self.variant.depths[stage])
                .map(|index| {
                    let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                    let name = format!("layer{}.{index}", stage + 1);
                    let block = self.block(name, in_channels, PLANES[stage], stride);
                    in_channels = PLANES[stage] * self.variant.block.expansion();
                    block
                })
                .collect()
        })
    }

    fn block(&self, name: String, in_channels: usize, planes: usize, stride: usize) -> ResidualBlock {
        let Variant { block, groups, width_per_group, .. } = *self.variant;
        let prefix = format!("{name}.");
        let out_channels = planes * block.expansion();
        let convolutions = match block {
            Block::Basic => vec![
                convolution(&prefix, "conv1", "bn1", in_channels, planes, 3, stride, 1),
                convolution(&prefix, "conv2", "bn2", planes, planes, 3, 1, 1),
            ],
            Block::Bottleneck => {
                let width = planes * width_per_group / 64 * groups;
                let (first, middle) = match self.stride_placement {
                    StridePlacement::Middle => (1, stride),
                    StridePlacement::First => (stride, 1),
                };
                vec![
                    convolution(&prefix, "conv1", "bn1", in_channels, width, 1, first, 1),
                    convolution(&prefix, "conv2", "bn2", width, width, 3, middle, groups),
                    convolution(&prefix, "conv3", "bn3", width, out_channels, 1, 1, 1),
                ]
            }
        };
        let downsample = (stride != 1 || in_channels != out_channels)
            .then(|| convolution(&prefix, "downsample.0", "downsample.1", in_channels, out_channels, 1, stride, 1));
        ResidualBlock { name, convolutions, downsample }
    }

    /// Inputs of the classifier: channels of the last stage.
    pub fn features(&self) -> usize {
        PLANES[3] * self.variant.block.expansion()
    }

    /// Every convolution of the network, each with its batch norm, in torchvision's order.
    pub fn convolutions(&self) -> Vec<Convolution> {
        let blocks = self.stages().into_iter().flatten();
        let blocks = blocks.flat_map(|block| block.convolutions.into_iter().chain(block.downsample));
        std::iter::once(self.stem().convolution).chain(blocks).collect()
    }

    /// Name and shape of every tensor of torchvision's state dict, but for the counters `num_batches_tracked`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let spec = |name: String, shape: &[usize], kind| TensorSpec { name, shape: shape.to_vec(), kind };
        let mut tensors = Vec::new();
        for convolution in self.convolutions() {
            let (norm, channels) = (&convolution.norm, [convolution.out_channels]);
            tensors.extend([
                spec(format!("{}.weight", convolution.name), &convolution.weight_shape(), TensorKind::Matrix),
                spec(format!("{norm}.weight"), &channels, TensorKind::Vector),
                spec(format!("{norm}.bias"), &channels, TensorKind::Vector),
                spec(format!("{norm}.running_mean"), &channels, TensorKind::Statistic),
                spec(format!("{norm}.running_var"), &channels, TensorKind::Statistic),
            ]);
        }
        tensors.push(spec("fc.weight".to_owned(), &[self.classes, self.features()], TensorKind::Matrix));
        tensors.push(spec("fc.bias".to_owned(), &[self.classes], TensorKind::Vector));
        tensors
    }

    /// Trainable parameters, as `sum(p.numel() for p in model.parameters())` counts them.
    pub fn parameter_count(&self) -> usize {
        let trained = self.tensors().into_iter().filter(|tensor| tensor.kind != TensorKind::Statistic);
        trained.map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }

    /// Multiply-adds of the convolutions and the classifier for one image of `size` x `size`,
    /// which is what torchvision calls GFLOPs.
    pub fn multiply_adds(&self, size: usize) -> u64 {
        let StemLayers { convolution, max_pool } = self.stem();
        let mut size = convolution.output_size(size);
        let mut sum = multiply_adds(&convolution, size);
        size = max_pool.map_or(size, |pool| pool.output_size(size));
        for block in self.stages().into_iter().flatten() {
            let input = size;
            for convolution in &block.convolutions {
                size = convolution.output_size(size);
                sum += multiply_adds(convolution, size);
            }
            if let Some(downsample) = &block.downsample {
                sum += multiply_adds(downsample, downsample.output_size(input));
            }
        }
        sum + (self.features() * self.classes) as u64
    }
}

fn multiply_adds(convolution: &Convolution, output_size: usize) -> u64 {
    (convolution.weight_shape().iter().product::<usize>() * output_size * output_size) as u64
}

/// A convolution that keeps the resolution but for its stride.
#[allow(clippy::too_many_arguments)] // a row of the table, private to it
fn convolution(
    prefix: &str,
    name: &str,
    norm: &str,
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Convolution {
    Convolution {
        name: format!("{prefix}{name}"),
        norm: format!("{prefix}{norm}"),
        in_channels,
        out_channels,
        kernel,
        stride,
        padding: kernel / 2,
        groups,
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torchvision's published numbers for 1000 classes: parameters, and GFLOPs at 224 (in its docs rounded to 1e-2).
    #[rustfmt::skip]
    const PUBLISHED: [(&str, usize, f64); 9] = [
        ("resnet18",          11_689_512,  1.814),
        ("resnet34",          21_797_672,  3.664),
        ("resnet50",          25_557_032,  4.089),
        ("resnet101",         44_549_160,  7.801),
        ("resnet152",         60_192_808, 11.514),
        ("resnext50_32x4d",   25_028_904,  4.230),
        ("resnext101_32x8d",  88_791_336, 16.414),
        ("wide_resnet50_2",   68_883_240, 11.398),
        ("wide_resnet101_2", 126_886_696, 22.753),
    ];

    #[test]
    fn counts_are_the_published_ones() {
        for (name, parameters, gflops) in PUBLISHED {
            let architecture = Architecture::new(name, 1000).unwrap();
            assert_eq!(architecture.parameter_count(), parameters, "{name}");
            let ours = architecture.multiply_adds(224) as f64 / 1e9;
            assert!((ours - gflops).abs() < 6e-4, "{name}: {ours} instead of {gflops}");
        }
    }

    #[test]
    fn v1_has_the_same_tensors_and_fewer_multiply_adds() {
        let [v1, v1_5] = ["resnet50_v1", "resnet50"].map(|name| Architecture::new(name, 1000).unwrap());
        assert_eq!(v1.tensors(), v1_5.tensors());
        assert!(v1.multiply_adds(224) < v1_5.multiply_adds(224));
    }

    #[test]
    fn names_round_trip_through_json() {
        for name in Architecture::names() {
            let architecture = Architecture { stem: Stem::Small, ..Architecture::new(&name, 10).unwrap() };
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(serde_json::from_str::<Architecture>(&json).unwrap(), architecture, "{json}");
        }
    }

    #[test]
    fn bad_names_and_class_counts_are_refused() {
        for name in ["resnet19", "resnet18_v1", "", "resnet50_v1_v1"] {
            let error = Architecture::new(name, 1000).unwrap_err();
            assert_eq!(error, ArchitectureError::UnknownName(name.to_owned()));
            assert!(error.to_string().contains("resnet50_v1"), "{error}");
        }
        assert_eq!(Architecture::new("resnet18", 0), Err(ArchitectureError::Classes(0)));
    }
}
