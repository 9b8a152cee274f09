//! Groups of channels that are computed or removed together, because shortcuts add them.

use super::layers::ResidualBlock;
use super::{Architecture, Block, Variant};
use std::fmt;

/// Channels of a value that several convolutions may write and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelGroup {
    /// The output of the stem. If the first block has no projection, it is the same group as the output of the first stage.
    Stem,
    /// The outputs of all blocks of a stage, counted from 0, which shortcuts add.
    Stage(usize),
    /// The output of a convolution that the next one of its block reads. All are counted from 0.
    Inner { stage: usize, block: usize, convolution: usize },
}

/// The groups that a convolution reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvolutionChannels {
    /// `None` for the stem, which reads the image.
    pub input: Option<ChannelGroup>,
    pub output: ChannelGroup,
}

impl ChannelGroup {
    /// Returns the groups of a variant, in the order of the network.
    pub fn all(variant: &Variant) -> Vec<ChannelGroup> {
        let mut groups = vec![ChannelGroup::Stem];
        for (stage, depth) in variant.depths.into_iter().enumerate() {
            groups.push(ChannelGroup::Stage(stage));
            let inner = (0..depth)
                .flat_map(|block| (0..variant.block.inner_convolutions()).map(move |convolution| (block, convolution)));
            groups.extend(inner.map(|(block, convolution)| ChannelGroup::Inner { stage, block, convolution }));
        }
        groups
    }

    /// Returns whether the channels are inside a block, and no shortcut adds them.
    pub fn is_inner(&self) -> bool {
        matches!(self, ChannelGroup::Inner { .. })
    }
}

/// Formats torchvision's name of the stage, or of the convolution that writes the channels.
impl fmt::Display for ChannelGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelGroup::Stem => f.write_str("conv1"),
            ChannelGroup::Stage(stage) => write!(f, "layer{}", stage + 1),
            ChannelGroup::Inner { stage, block, convolution } => {
                write!(f, "layer{}.{block}.conv{}", stage + 1, convolution + 1)
            }
        }
    }
}

impl Block {
    /// Returns the number of convolutions of a block before the last one.
    pub(super) const fn inner_convolutions(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 2,
        }
    }
}

impl Architecture {
    /// Returns the group of the stem's output, which the first block reads.
    fn stem_group(&self) -> ChannelGroup {
        if self.variant.projects(0) { ChannelGroup::Stem } else { ChannelGroup::Stage(0) }
    }

    /// Returns the groups whose widths can be chosen independently of each other, in the order of the network.
    pub fn channel_groups(&self) -> Vec<ChannelGroup> {
        let has_own_stem = self.stem_group() == ChannelGroup::Stem;
        ChannelGroup::all(self.variant)
            .into_iter()
            .filter(|group| {
                (*group != ChannelGroup::Stem || has_own_stem) && !(group.is_inner() && self.variant.groups > 1)
            })
            .collect()
    }

    /// Returns the groups that each of [`Architecture::convolutions`] reads and writes.
    pub fn convolution_channels(&self) -> Vec<ConvolutionChannels> {
        let mut stream = self.stem_group();
        let mut channels = vec![ConvolutionChannels { input: None, output: stream }];
        for (stage, blocks) in self.stages().into_iter().enumerate() {
            for (index, ResidualBlock { convolutions, downsample, .. }) in blocks.into_iter().enumerate() {
                let output = ChannelGroup::Stage(stage);
                let last = convolutions.len() - 1;
                let mut value = stream;
                for convolution in 0..=last {
                    let inner = ChannelGroup::Inner { stage, block: index, convolution };
                    let written = if convolution == last { output } else { inner };
                    channels.push(ConvolutionChannels { input: Some(value), output: written });
                    value = written;
                }
                channels.extend(downsample.map(|_| ConvolutionChannels { input: Some(stream), output }));
                stream = output;
            }
        }
        channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_of_the_groups_are_those_of_the_convolutions() {
        for name in Architecture::names() {
            let architecture = Architecture::new(&name, 10).unwrap();
            let widths = architecture.widths();
            let channels = architecture.convolution_channels();
            assert_eq!(channels.len(), architecture.convolutions().len());
            for (layer, ConvolutionChannels { input, output }) in architecture.convolutions().iter().zip(channels) {
                assert_eq!(layer.out_channels, widths.get(output), "{name}, {}", layer.name);
                assert_eq!(layer.in_channels, input.map_or(3, |group| widths.get(group)), "{name}, {}", layer.name);
            }
        }
    }

    #[test]
    fn shortcuts_tie_the_stem_to_the_first_stage_of_basic_blocks() {
        let first = |name: &str| Architecture::new(name, 10).unwrap().convolution_channels()[0].output;
        assert_eq!(first("resnet18"), ChannelGroup::Stage(0));
        assert_eq!(first("resnet50"), ChannelGroup::Stem);
        let names = |name: &str| -> Vec<String> {
            Architecture::new(name, 10).unwrap().channel_groups().iter().map(ChannelGroup::to_string).collect()
        };
        assert_eq!(names("resnet18")[..4], ["layer1", "layer1.0.conv1", "layer1.1.conv1", "layer2"]);
        assert_eq!(names("resnext50_32x4d"), ["conv1", "layer1", "layer2", "layer3", "layer4"]);
    }
}
