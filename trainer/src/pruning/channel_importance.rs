//! Importance of each channel, by which the channels to remove are chosen.

use super::taylor::taylor_importance;
use crate::data::DataLoader;
use anyhow::Result;
use clap::ValueEnum;
use model::architecture::{ChannelGroup, Convolution};
use model::checkpoint::Checkpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Criterion of the importance of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// L2 norm of the filters that compute the channel (Li et al. 2017 with L1, <https://arxiv.org/abs/1608.08710>).
    L2,
    /// Magnitude of the scale of the channel's batch norms (Liu et al. 2017, <https://arxiv.org/abs/1708.06519>).
    BatchNorm,
    /// Change of the loss without the channel, estimated from gradients (Molchanov et al. 2019,
    /// <https://arxiv.org/abs/1906.10771>).
    Taylor,
}

/// Importance of the channels of each group that can be pruned, comparable between groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupImportance(BTreeMap<ChannelGroup, Vec<f64>>);

impl GroupImportance {
    /// Computes the importance from the weights, or for [`Criterion::Taylor`] from photos that `load` starts to load. If
    /// several convolutions write a channel, their contributions are added up.
    ///
    /// # Errors
    /// Returns an error if no photo can be decoded, or if training fails to start.
    pub fn compute(checkpoint: &Checkpoint, criterion: Criterion, load: impl FnOnce() -> DataLoader) -> Result<Self> {
        let mut importance = match criterion {
            Criterion::L2 => sums_over_writers(
                checkpoint,
                |layer| &layer.name,
                |weight| weight.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>().sqrt(),
            ),
            Criterion::BatchNorm => {
                sums_over_writers(checkpoint, |layer| &layer.norm, |scale| f64::from(scale[0].abs()))
            }
            Criterion::Taylor => taylor_importance(checkpoint, load())?,
        };
        let groups = checkpoint.architecture().channel_groups();
        importance.retain(|group, _| groups.contains(group));
        Ok(GroupImportance(importance))
    }

    /// Returns the importance of each channel of a group.
    pub fn of(&self, group: ChannelGroup) -> &[f64] {
        &self.0[&group]
    }

    /// Returns the channels of a group, the least important one first; among equal ones, the lowest index.
    pub fn order(&self, group: ChannelGroup) -> Vec<usize> {
        let importance = self.of(group);
        let mut order: Vec<usize> = (0..importance.len()).collect();
        order.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]));
        order
    }
}

/// Adds up a function of the weights of each channel, over the convolutions, or their norms, that write the channel. The
/// values of each of them are divided by their sum, because magnitudes of different layers are not comparable.
fn sums_over_writers(
    checkpoint: &Checkpoint,
    module: impl Fn(&Convolution) -> &str,
    function: impl Fn(&[f32]) -> f64,
) -> BTreeMap<ChannelGroup, Vec<f64>> {
    let architecture = checkpoint.architecture();
    let mut sums: BTreeMap<ChannelGroup, Vec<f64>> = BTreeMap::new();
    for (layer, channels) in architecture.convolutions().iter().zip(architecture.convolution_channels()) {
        let weight = checkpoint.values(&format!("{}.weight", module(layer)));
        let values: Vec<f64> = weight.chunks_exact(weight.len() / layer.out_channels).map(&function).collect();
        let total: f64 = values.iter().sum();
        // If all are zero, all are equally unimportant.
        let total = if total > 0.0 { total } else { 1.0 };
        let sums = sums.entry(channels.output).or_insert_with(|| vec![0.0; layer.out_channels]);
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / total);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use model::random;

    #[test]
    fn channels_of_a_stage_are_judged_by_all_convolutions_that_write_them() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let metadata = checkpoint.metadata().clone();
        let mut tensors = checkpoint.into_values();
        // Channel 5 of the second stage is zero in all of its writers, channel 6 in all but one.
        for name in ["layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2"] {
            let weight = tensors.get_mut(&format!("{name}.weight")).unwrap();
            let row = weight.len() / 128;
            weight[5 * row..6 * row].fill(0.0);
            if name != "layer2.1.conv2" {
                weight[6 * row..7 * row].fill(0.0);
            }
        }
        for name in ["layer2.0.bn2", "layer2.0.downsample.1", "layer2.1.bn2"] {
            tensors.get_mut(&format!("{name}.weight")).unwrap()[9] = 0.0;
        }
        let checkpoint = Checkpoint::new(metadata, tensors).unwrap();
        let importance = |criterion| GroupImportance::compute(&checkpoint, criterion, || unreachable!()).unwrap();
        let l2 = importance(Criterion::L2);
        assert_eq!(l2.order(ChannelGroup::Stage(1))[0], 5);
        assert!(l2.of(ChannelGroup::Stage(1))[5] == 0.0 && l2.of(ChannelGroup::Stage(1))[6] > 0.0);
        assert_eq!(importance(Criterion::BatchNorm).order(ChannelGroup::Stage(1))[0], 9);
        let sum: f64 = l2.of(ChannelGroup::Stage(3)).iter().sum();
        assert!((sum - 3.0).abs() < 1e-9, "{sum}, not one for each convolution that writes the stage");
    }
}
