//! Explanations of predictions: class activation maps (CAM), which are the contribution of each part of a photo to the
//! logit of a class, and grids of filters and feature maps.
//!
//! Zhou et al. (2016), "Learning Deep Features for Discriminative Localization". All our networks end in a global
//! average pool and a linear layer, so a logit is the mean over all positions of the channels there, weighted by the
//! classifier, plus a bias. The map shows the terms of this mean; it is exact, not an estimate.

mod image_grid;
mod overlay;

pub use image_grid::{Scaling, grid_size, image_grid};
pub use overlay::overlay;

use crate::checkpoint::Checkpoint;
use crate::engine::Activation;
use crate::plan::{Stage, Tap};
use crate::preprocess::Region;
use serde::{Deserialize, Serialize};

/// The weights of the classifier, by class and channel.
#[derive(Clone, Debug)]
pub struct ClassifierWeights {
    /// Weights, `[classes, channels]`.
    weight: Vec<f32>,
    channels: usize,
}

/// A class activation map: f32 `[height, width]`, one value per position in the output of the last stage.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationMap {
    /// Values in row-major order.
    pub values: Vec<f32>,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// The class activation map of the most likely class, and its position in the photo.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The map, which covers the whole region, with values from 0 to 1.
    pub map: ActivationMap,
    pub region: Region,
}

impl ClassifierWeights {
    /// The tap that a run has to return for a class activation map.
    pub const TAP: Tap = Tap::Stage(Stage::Four);

    /// Creates the weights from values `[classes, channels]`.
    pub fn new(weight: Vec<f32>, channels: usize) -> Self {
        ClassifierWeights { weight, channels }
    }

    /// Reads the classifier's weights from a checkpoint.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Self {
        let weight = checkpoint.values("fc.weight");
        let channels = weight.len() / checkpoint.architecture().classes;
        ClassifierWeights::new(weight, channels)
    }

    /// Returns the contribution of each position of image `image` to the logit of `class`; negative values decrease the
    /// logit. The mean of the map is the logit without its bias. `activation` is the value of
    /// [`ClassifierWeights::TAP`].
    ///
    /// # Panics
    /// Panics if the network has no class `class`, or the activation no image `image`.
    pub fn cam(&self, activation: &Activation, image: usize, class: usize) -> ActivationMap {
        let [_, channels, height, width] = activation.shape;
        let positions = height * width;
        let weights = &self.weight[class * self.channels..][..self.channels];
        let mut values = vec![0.0; positions];
        let planes = activation.values[image * channels * positions..].chunks_exact(positions);
        for (plane, weight) in planes.zip(weights) {
            values.iter_mut().zip(plane).for_each(|(sum, value)| *sum += weight * value);
        }
        ActivationMap { values, height, width }
    }
}

impl ActivationMap {
    /// Sets negative values to zero, and scales the map so that its maximum is 1. The map is all zeros if no value is
    /// positive.
    pub fn relu_normalised(mut self) -> Self {
        let maximum = self.values.iter().copied().fold(0.0, f32::max);
        let scale = if maximum > 0.0 { maximum.recip() } else { 0.0 };
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
    fn mean_of_the_cam_is_the_logit() {
        let shape = [2, 96, 64];
        for network in ["resnet18", "resnet50"] {
            let checkpoint = random::checkpoint(Architecture::new(network, 5).unwrap());
            let (bias, weights) = (checkpoint.values("fc.bias"), ClassifierWeights::from_checkpoint(&checkpoint));
            let engine = block_on(Engine::prepare(Plan::from(checkpoint), Device::Cpu)).unwrap();
            let pixels = random::pixels(1, shape.iter().product::<usize>() * 3);
            let images = ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap();
            let output = block_on(engine.run(&Input::Pixels(images), &[ClassifierWeights::TAP])).unwrap();

            for (image, class) in (0..shape[0]).flat_map(|image| (0..bias.len()).map(move |class| (image, class))) {
                let map = weights.cam(&output.activations[0], image, class);
                assert_eq!((map.height, map.width, map.values.len()), (3, 2, 6));
                let mean = map.values.iter().sum::<f32>() / map.values.len() as f32;
                let (sum, logit) = (mean + bias[class], output.logits.row(image)[class]);
                assert!((sum - logit).abs() < 1e-4 * logit.abs().max(1.0), "{network}: {sum}, expected {logit}");
            }
        }
    }

    #[test]
    fn relu_normalised_removes_negative_values() {
        let map = |values: [f32; 4]| ActivationMap { values: values.to_vec(), height: 2, width: 2 };
        assert_eq!(map([-8.0, 1.0, 0.0, 4.0]).relu_normalised(), map([0.0, 0.25, 0.0, 1.0]));
        assert_eq!(map([-8.0, -1.0, 0.0, -4.0]).relu_normalised(), map([0.0; 4]));
    }
}
