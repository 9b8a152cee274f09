//! Class activation maps: which parts of a photo spoke for a class.
//!
//! Zhou et al. (2016), "Learning Deep Features for Discriminative Localization". Where a network ends in a global average
//! pool and one linear layer, as all of ours do, a logit is the mean over all places of what the channels there are worth
//! to the class, plus a bias. The map is that sum taken apart again, so nothing in it is estimated.

use crate::checkpoint::Checkpoint;
use crate::engine::Kept;
use crate::plan::{Stage, Tap};
use crate::preprocess::Region;
use serde::{Deserialize, Serialize};

/// What each channel is worth to each class: the weights of the classifier.
#[derive(Clone, Debug)]
pub struct ClassWeights {
    /// `[classes, channels]`
    weight: Vec<f32>,
    channels: usize,
}

/// f32 `[height, width]`, a value for each place of the last stage.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationMap {
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

/// What spoke for the likeliest class, and where that lies in the photo.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// In 0..1, laid over the whole region.
    pub map: ActivationMap,
    pub region: Region,
}

impl ClassWeights {
    /// What a run has to keep for a map.
    pub const TAP: Tap = Tap::Stage(Stage::Four);

    /// `weight` is `[classes, channels]`.
    pub fn new(weight: Vec<f32>, channels: usize) -> Self {
        ClassWeights { weight, channels }
    }

    /// Those of a network.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let weight = checkpoint.values("fc.weight");
        let channels = weight.len() / checkpoint.architecture().classes;
        ClassWeights::new(weight, channels)
    }

    /// How much each place of an image speaks for a class or, below zero, against it: the mean of all places is the logit
    /// without its bias. `kept` is what a run kept of [`ClassWeights::TAP`].
    ///
    /// # Panics
    /// If the network has no such class, or the run no such image.
    pub fn evidence(&self, kept: &Kept, image: usize, class: usize) -> ActivationMap {
        let [_, channels, height, width] = kept.shape;
        let places = height * width;
        let worths = &self.weight[class * self.channels..][..self.channels];
        let mut values = vec![0.0; places];
        let planes = kept.values[image * channels * places..].chunks_exact(places);
        for (plane, worth) in planes.zip(worths) {
            values.iter_mut().zip(plane).for_each(|(sum, value)| *sum += worth * value);
        }
        ActivationMap { values, height, width }
    }
}

impl ActivationMap {
    /// What speaks for the class alone, scaled so that the strongest is 1. All zeros if nothing does.
    pub fn in_favour(mut self) -> Self {
        let strongest = self.values.iter().copied().fold(0.0, f32::max);
        let scale = if strongest > 0.0 { strongest.recip() } else { 0.0 };
        self.values.iter_mut().for_each(|value| *value = value.max(0.0) * scale);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::engine::{Device, Engine, Input};
    use crate::plan::Plan;
    use crate::preprocess::ImageBatch;
    use crate::random;
    use pollster::block_on;

    #[test]
    fn the_mean_of_the_evidence_is_the_logit() {
        let shape = [2, 96, 64];
        for network in ["resnet18", "resnet50"] {
            let checkpoint = random::checkpoint(Architecture::new(network, 5).unwrap());
            let (bias, weights) = (checkpoint.values("fc.bias"), ClassWeights::of(&checkpoint));
            let engine = block_on(Engine::prepare(Plan::from(checkpoint), Device::Cpu)).unwrap();
            let pixels = random::pixels(1, shape.iter().product::<usize>() * 3);
            let images = ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap();
            let output = block_on(engine.run(&Input::Pixels(images), &[ClassWeights::TAP])).unwrap();

            for (image, class) in (0..shape[0]).flat_map(|image| (0..bias.len()).map(move |class| (image, class))) {
                let map = weights.evidence(&output.kept[0], image, class);
                assert_eq!((map.height, map.width, map.values.len()), (3, 2, 6));
                let mean = map.values.iter().sum::<f32>() / map.values.len() as f32;
                let (found, logit) = (mean + bias[class], output.logits.row(image)[class]);
                assert!((found - logit).abs() < 1e-4 * logit.abs().max(1.0), "{network}: {found} instead of {logit}");
            }
        }
    }

    #[test]
    fn what_speaks_against_a_class_is_not_shown() {
        let map = |values: [f32; 4]| ActivationMap { values: values.to_vec(), height: 2, width: 2 };
        assert_eq!(map([-8.0, 1.0, 0.0, 4.0]).in_favour(), map([0.0, 0.25, 0.0, 1.0]));
        assert_eq!(map([-8.0, -1.0, 0.0, -4.0]).in_favour(), map([0.0; 4]));
    }
}
