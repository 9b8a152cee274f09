//! Widths: the numbers of channels of a network that has been pruned.
//!
//! Only whole blocks of [`Widths::MULTIPLE`] channels can be absent, because the kernels compute blocks of channels. A
//! network without widths has those of torchvision.

use super::channel_groups::ChannelGroup;
use super::layers::PLANES;
use super::{Architecture, ArchitectureError, Variant};
use serde::{Deserialize, Serialize};

/// Largest number of blocks of a variant, and of convolutions before the last one of a block.
const MAX_BLOCKS: usize = 50;
const MAX_INNER: usize = 2;

/// Number of channels of each [`ChannelGroup`] of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    stem: u16,
    stages: [u16; 4],
    /// Channels between the convolutions of each block; those that the variant does not have are zero.
    inner: [[u16; MAX_INNER]; MAX_BLOCKS],
    depths: [usize; 4],
}

/// The serialised form of [`Widths`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WidthsRecord {
    stem: usize,
    stages: [usize; 4],
    /// The channels between the convolutions of all blocks, in the order of the network.
    inner: Vec<usize>,
}

impl Widths {
    /// Every width is a multiple of this number of channels.
    pub const MULTIPLE: usize = 16;

    /// Returns the widths of a network that has not been pruned.
    ///
    /// # Panics
    /// Panics if the variant has more blocks than any row of [`VARIANTS`](super::VARIANTS).
    pub fn of_variant(variant: &Variant) -> Self {
        let expansion = variant.block.expansion();
        let mut widths = Widths {
            stem: PLANES[0] as u16,
            stages: PLANES.map(|planes| (planes * expansion) as u16),
            inner: [[0; MAX_INNER]; MAX_BLOCKS],
            depths: variant.depths,
        };
        for group in ChannelGroup::all(variant) {
            if let ChannelGroup::Inner { stage, .. } = group {
                widths.set(group, variant.inner_width(PLANES[stage]));
            }
        }
        widths
    }

    /// Returns the number of channels of a group.
    pub fn get(&self, group: ChannelGroup) -> usize {
        usize::from(match group {
            ChannelGroup::Stem => self.stem,
            ChannelGroup::Stage(stage) => self.stages[stage],
            ChannelGroup::Inner { stage, block, convolution } => {
                self.inner[self.block_index(stage, block)][convolution]
            }
        })
    }

    /// Changes the number of channels of a group. [`Architecture::with_widths`] checks it.
    ///
    /// # Panics
    /// Panics if the number is above 65,535.
    pub fn set(&mut self, group: ChannelGroup, channels: usize) {
        let index = match group {
            ChannelGroup::Inner { stage, block, .. } => self.block_index(stage, block),
            ChannelGroup::Stem | ChannelGroup::Stage(_) => 0,
        };
        let width = match group {
            ChannelGroup::Stem => &mut self.stem,
            ChannelGroup::Stage(stage) => &mut self.stages[stage],
            ChannelGroup::Inner { convolution, .. } => &mut self.inner[index][convolution],
        };
        *width = channels.try_into().expect("no network has this many channels");
    }

    fn block_index(&self, stage: usize, block: usize) -> usize {
        self.depths[..stage].iter().sum::<usize>() + block
    }

    pub(super) fn to_record(self, variant: &Variant) -> WidthsRecord {
        let inner = ChannelGroup::all(variant).into_iter().filter(ChannelGroup::is_inner);
        WidthsRecord {
            stem: self.stem.into(),
            stages: self.stages.map(usize::from),
            inner: inner.map(|group| self.get(group)).collect(),
        }
    }

    pub(super) fn from_record(record: WidthsRecord, variant: &Variant) -> Result<Self, ArchitectureError> {
        let mut widths = Widths::of_variant(variant);
        let groups = ChannelGroup::all(variant);
        let inner: Vec<_> = groups.iter().copied().filter(ChannelGroup::is_inner).collect();
        if inner.len() != record.inner.len() {
            return Err(ArchitectureError::WidthCount { found: record.inner.len(), expected: inner.len() });
        }
        let others = std::iter::once((ChannelGroup::Stem, record.stem));
        let others = others.chain((0..4).map(ChannelGroup::Stage).zip(record.stages));
        for (group, channels) in others.chain(inner.into_iter().zip(record.inner)) {
            check_width(group, channels, widths.get(group))?;
            widths.set(group, channels);
        }
        Ok(widths)
    }
}

impl Architecture {
    /// Returns the number of channels of each group.
    pub fn widths(&self) -> Widths {
        self.widths.unwrap_or_else(|| Widths::of_variant(self.variant))
    }

    /// Returns whether channels of the variant have been removed.
    pub fn is_pruned(&self) -> bool {
        self.widths.is_some()
    }

    /// Changes the widths.
    ///
    /// # Errors
    /// Returns an error if a width is not a multiple of [`Widths::MULTIPLE`] or above that of the variant, if the stem and a
    /// first stage whose shortcut is its output have different widths, or if groups of a convolution would have different
    /// numbers of channels.
    pub fn with_widths(self, widths: Widths) -> Result<Self, ArchitectureError> {
        let unpruned = Widths::of_variant(self.variant);
        for group in ChannelGroup::all(self.variant) {
            let (found, max) = (widths.get(group), unpruned.get(group));
            check_width(group, found, max)?;
            if group.is_inner() && self.variant.groups > 1 && found != max {
                return Err(ArchitectureError::GroupedWidth { group, found, expected: max });
            }
        }
        let [stem, stage] = [ChannelGroup::Stem, ChannelGroup::Stage(0)].map(|group| widths.get(group));
        if !self.variant.projects(0) && stem != stage {
            return Err(ArchitectureError::TiedWidths { stem, stage });
        }
        Ok(Architecture { widths: (widths != unpruned).then_some(widths), ..self })
    }
}

fn check_width(group: ChannelGroup, found: usize, max: usize) -> Result<(), ArchitectureError> {
    let is_valid = (1..=max).contains(&found) && (found == max || found.is_multiple_of(Widths::MULTIPLE));
    if is_valid { Ok(()) } else { Err(ArchitectureError::InvalidWidth { group, found, max }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: ChannelGroup = ChannelGroup::Inner { stage: 1, block: 0, convolution: 0 };

    fn with(name: &str, changes: &[(ChannelGroup, usize)]) -> Result<Architecture, ArchitectureError> {
        let architecture = Architecture::new(name, 10).unwrap();
        let mut widths = architecture.widths();
        changes.iter().for_each(|&(group, channels)| widths.set(group, channels));
        architecture.with_widths(widths)
    }

    #[test]
    fn widths_change_the_shapes_of_the_tensors_that_write_and_read_the_channels() {
        let pruned = with("resnet18", &[(INNER, 96), (ChannelGroup::Stage(2), 208)]).unwrap();
        let shape = |name: &str| pruned.tensors().into_iter().find(|tensor| tensor.name == name).unwrap().shape;
        assert_eq!(shape("layer2.0.conv1.weight"), [96, 64, 3, 3]);
        assert_eq!(shape("layer2.0.bn1.running_var"), [96]);
        assert_eq!(shape("layer2.0.conv2.weight"), [128, 96, 3, 3]);
        for name in ["layer3.0.conv2.weight", "layer3.1.conv2.weight"] {
            assert_eq!(shape(name), [208, 256, 3, 3]);
        }
        assert_eq!(shape("layer3.0.downsample.0.weight"), [208, 128, 1, 1]);
        assert_eq!(shape("layer4.0.conv1.weight"), [512, 208, 3, 3]);
        assert_eq!(shape("layer4.0.downsample.0.weight"), [512, 208, 1, 1]);
        assert_eq!(with("resnet18", &[(ChannelGroup::Stage(3), 32)]).unwrap().features(), 32);
    }

    #[test]
    fn widths_of_the_variant_are_not_recorded() {
        for name in Architecture::names() {
            let architecture = Architecture::new(&name, 10).unwrap();
            assert_eq!(architecture.with_widths(architecture.widths()).unwrap(), architecture);
        }
    }

    #[test]
    fn a_projection_stays_if_its_widths_become_equal() {
        let changes = [(ChannelGroup::Stem, 64), (ChannelGroup::Stage(0), 64)];
        let pruned = with("resnet50", &changes).unwrap();
        assert!(pruned.stages()[0][0].downsample.is_some());
    }

    #[test]
    fn invalid_widths_are_rejected() {
        let error = |name: &str, changes: &[(ChannelGroup, usize)]| with(name, changes).unwrap_err().to_string();
        for channels in [0, 8, 100, 144] {
            let message = error("resnet18", &[(INNER, channels)]);
            let expected = "of layer2.0.conv1: must be a multiple of 16, and at most 128";
            assert!(message.contains(expected) && message.contains(&channels.to_string()), "{message}");
        }
        let message = error("resnet18", &[(ChannelGroup::Stem, 32)]);
        assert_eq!(message, "invalid widths: conv1 has 32 channels, and layer1, to which they are added, has 64");
        assert!(with("resnet50", &[(ChannelGroup::Stem, 32)]).is_ok());
        let message = error("resnext50_32x4d", &[(INNER, 128)]);
        assert!(message.contains("layer2.0.conv1 must be 256"), "{message}");
    }
}
