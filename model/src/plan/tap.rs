//! Taps: the intermediate values that a run can return, by torchvision's names of the modules that compute them.
//!
//! Outputs of convolutions and batch norms are no taps, because a plan has neither: batch norms are folded into the
//! convolutions, and ReLU and shortcut are fused with them.

use super::ValueId;
use crate::architecture::{Architecture, StemLayers};
use std::fmt;

/// An intermediate value that a run can return in addition to the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tap {
    /// The input of the first stage: the output of the stem, after its max-pool if it has one.
    Stem,
    /// The output of a block: the stage, and the index of the block in it.
    Block(Stage, usize),
    /// The output of a stage, which is that of its last block.
    Stage(Stage),
}

/// One of the four stages, torchvision's `layer1` to `layer4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    One,
    Two,
    Three,
    Four,
}

impl Stage {
    /// All stages, in the order of the network.
    pub const ALL: [Stage; 4] = [Stage::One, Stage::Two, Stage::Three, Stage::Four];
}

/// Formats torchvision's name of the stage, such as `layer1`.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer{}", *self as usize + 1)
    }
}

impl Tap {
    /// The taps that every network has, in the order of the network.
    pub const STEM_AND_STAGES: [Tap; 5] =
        [Tap::Stem, Tap::Stage(Stage::One), Tap::Stage(Stage::Two), Tap::Stage(Stage::Three), Tap::Stage(Stage::Four)];

    /// Returns all taps of a network, in the order of the network.
    pub fn all(architecture: &Architecture) -> Vec<Tap> {
        let stages = Stage::ALL.into_iter().zip(architecture.stages());
        let stages = stages.flat_map(|(stage, blocks)| {
            (0..blocks.len()).map(move |index| Tap::Block(stage, index)).chain([Tap::Stage(stage)])
        });
        std::iter::once(Tap::Stem).chain(stages).collect()
    }

    /// Returns the tap whose value is the output of a module, which has one of [`Architecture::module_names`] or the name
    /// of a tap; `None` if no tap has this value.
    pub fn of_module(name: &str, architecture: &Architecture) -> Option<Tap> {
        let stem = if architecture.stem().max_pool.is_some() { "maxpool" } else { "relu" };
        if name == stem {
            return Some(Tap::Stem);
        }
        Tap::all(architecture).into_iter().find(|tap| tap.to_string() == name)
    }

    /// Returns the shape of the value for an image of a height and width, `[channels, height, width]`, or `None` if the
    /// network does not have this tap.
    pub fn shape(self, architecture: &Architecture, size: [usize; 2]) -> Option<[usize; 3]> {
        let StemLayers { convolution, max_pool } = architecture.stem();
        let mut channels = convolution.out_channels;
        let mut size = size.map(|side| convolution.output_size(side));
        size = max_pool.map_or(size, |pool| size.map(|side| pool.output_size(side)));
        let shape = |channels: usize, [height, width]: [usize; 2]| Some([channels, height, width]);
        if self == Tap::Stem {
            return shape(channels, size);
        }
        for (stage, blocks) in Stage::ALL.into_iter().zip(architecture.stages()) {
            for (index, block) in blocks.into_iter().enumerate() {
                for layer in &block.convolutions {
                    size = size.map(|side| layer.output_size(side));
                    channels = layer.out_channels;
                }
                if self == Tap::Block(stage, index) {
                    return shape(channels, size);
                }
            }
            if self == Tap::Stage(stage) {
                return shape(channels, size);
            }
        }
        None
    }
}

/// Formats torchvision's name of the module, such as `layer1` or `layer1.0`, or `stem`, which is no single module there.
impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tap::Stem => f.write_str("stem"),
            Tap::Block(stage, index) => write!(f, "{stage}.{index}"),
            Tap::Stage(stage) => write!(f, "{stage}"),
        }
    }
}

/// The taps of a plan, each with its value.
#[derive(Clone, Debug, Default)]
pub struct TapValues(Vec<(Tap, ValueId)>);

impl TapValues {
    pub(super) fn insert(&mut self, tap: Tap, value: ValueId) {
        self.0.push((tap, value));
    }

    /// Returns the value of a tap, or `None` if the network does not have this tap.
    pub fn get(&self, tap: Tap) -> Option<ValueId> {
        self.0.iter().find(|(other, _)| *other == tap).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Stem;

    #[test]
    fn modules_with_the_value_of_a_tap_have_torchvisions_names() {
        let architecture = Architecture::new("resnet18", 10).unwrap();
        for (name, tap) in [
            ("stem", Some(Tap::Stem)),
            ("maxpool", Some(Tap::Stem)),
            ("layer1", Some(Tap::Stage(Stage::One))),
            ("layer4.1", Some(Tap::Block(Stage::Four, 1))),
            ("layer4.2", None),
            ("layer5", None),
            ("relu", None),
            ("layer1.0.conv1", None),
        ] {
            assert_eq!(Tap::of_module(name, &architecture), tap, "{name}");
        }
        let small = Architecture { stem: Stem::Small, ..architecture };
        assert_eq!(Tap::of_module("relu", &small), Some(Tap::Stem));
    }
}
