//! The layers of stem and stages that the table of architectures describes, in order.

use super::{Architecture, Block, ChannelGroup, Stem, StridePlacement, Variant, Widths};

/// Number of planes of the four stages.
pub(super) const PLANES: [usize; 4] = [64, 128, 256, 512];

/// A convolution without bias, followed by a batch norm. Kernels and strides are square.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Prefix of the convolution's tensor, such as `layer1.0.conv1`.
    pub name: String,
    /// Prefix of the batch norm's tensors, such as `layer1.0.bn1`.
    pub norm: String,
    pub in_channels: usize,
    pub out_channels: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub groups: usize,
}

impl Convolution {
    /// Returns the shape of the weight, `[out_channels, in_channels / groups, kernel, kernel]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel, self.kernel]
    }

    /// Returns the output height (or width) for an input height (or width) of `size`.
    pub fn output_size(&self, size: usize) -> usize {
        output_size(size, self.kernel, self.stride, self.padding)
    }
}

/// A max-pool. Padding counts as minus infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl MaxPool {
    /// Returns the output height (or width) for an input height (or width) of `size`.
    pub fn output_size(&self, size: usize) -> usize {
        output_size(size, self.kernel, self.stride, self.padding)
    }
}

fn output_size(size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (size + 2 * padding - kernel) / stride + 1
}

/// The layers of the stem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StemLayers {
    pub convolution: Convolution,
    pub max_pool: Option<MaxPool>,
}

/// A residual block: its convolutions in order, and the projection of its shortcut if shapes differ. A ReLU follows
/// each convolution; the output of the last one is added to the shortcut before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidualBlock {
    /// Prefix of the block's tensors, such as `layer1.0`.
    pub name: String,
    pub convolutions: Vec<Convolution>,
    pub downsample: Option<Convolution>,
}

impl Variant {
    /// Returns whether the first block of a stage, counted from 0, has a projection: whether it changes the resolution, or,
    /// before pruning, the number of channels.
    pub(super) fn projects(&self, stage: usize) -> bool {
        stage > 0 || self.block.expansion() > 1
    }

    /// Returns the number of channels between the convolutions of a block with a number of planes, before pruning.
    pub(super) fn inner_width(&self, planes: usize) -> usize {
        match self.block {
            Block::Basic => planes,
            Block::Bottleneck => planes * self.width_per_group / 64 * self.groups,
        }
    }
}

impl Architecture {
    /// Returns the layers before `layer1`.
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
        let channels = self.widths().get(ChannelGroup::Stem);
        StemLayers { convolution: convolution("", "conv1", "bn1", 3, channels, kernel, stride, 1), max_pool }
    }

    /// Returns the blocks of the four stages, torchvision's `layer1` to `layer4`.
    pub fn stages(&self) -> [Vec<ResidualBlock>; 4] {
        let widths = self.widths();
        let mut in_channels = widths.get(ChannelGroup::Stem);
        std::array::from_fn(|stage| {
            (0..self.variant.depths[stage])
                .map(|index| {
                    let block = self.block(&widths, stage, index, in_channels);
                    in_channels = widths.get(ChannelGroup::Stage(stage));
                    block
                })
                .collect()
        })
    }

    fn block(&self, widths: &Widths, stage: usize, index: usize, in_channels: usize) -> ResidualBlock {
        let name = format!("layer{}.{index}", stage + 1);
        let prefix = format!("{name}.");
        let stride = if stage > 0 && index == 0 { 2 } else { 1 };
        let inner = |convolution| widths.get(ChannelGroup::Inner { stage, block: index, convolution });
        let out_channels = widths.get(ChannelGroup::Stage(stage));
        let convolutions = match self.variant.block {
            Block::Basic => vec![
                convolution(&prefix, "conv1", "bn1", in_channels, inner(0), 3, stride, 1),
                convolution(&prefix, "conv2", "bn2", inner(0), out_channels, 3, 1, 1),
            ],
            Block::Bottleneck => {
                let (first, middle) = match self.stride_placement {
                    StridePlacement::Middle => (1, stride),
                    StridePlacement::First => (stride, 1),
                };
                vec![
                    convolution(&prefix, "conv1", "bn1", in_channels, inner(0), 1, first, 1),
                    convolution(&prefix, "conv2", "bn2", inner(0), inner(1), 3, middle, self.variant.groups),
                    convolution(&prefix, "conv3", "bn3", inner(1), out_channels, 1, 1, 1),
                ]
            }
        };
        let downsample = (index == 0 && self.variant.projects(stage))
            .then(|| convolution(&prefix, "downsample.0", "downsample.1", in_channels, out_channels, 1, stride, 1));
        ResidualBlock { name, convolutions, downsample }
    }

    /// Returns the number of inputs of the classifier, which are the channels of the last stage.
    pub fn features(&self) -> usize {
        self.widths().get(ChannelGroup::Stage(3))
    }

    /// Returns all convolutions of the network, each with its batch norm, in torchvision's order.
    pub fn convolutions(&self) -> Vec<Convolution> {
        let blocks = self.stages().into_iter().flatten();
        let blocks = blocks.flat_map(|block| block.convolutions.into_iter().chain(block.downsample));
        std::iter::once(self.stem().convolution).chain(blocks).collect()
    }
}

/// Creates a convolution whose padding preserves the resolution if its stride is 1.
#[allow(clippy::too_many_arguments)] // positional arguments keep the calls readable as rows of a table
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
