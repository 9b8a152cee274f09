//! First-order Taylor importance: the square of the change of the loss if the outputs of a channel's batch norms were zero,
//! to first order (Molchanov et al. 2019, <https://arxiv.org/abs/1906.10771>).
//!
//! An output of a batch norm is `y = γ x + β`, so the sum of `y * ∂loss/∂y` over a batch is `γ ∂loss/∂γ + β ∂loss/∂β`. The
//! batch norms use the statistics of the batch, as in training.

use crate::data::DataLoader;
use anyhow::{Result, ensure};
use model::architecture::ChannelGroup;
use model::checkpoint::Checkpoint;
use model::engine::Input;
use model::training::{TrainingNetwork, TrainingOptions};
use std::collections::{BTreeMap, HashMap};

/// Returns the importance of each channel, averaged over the batches.
pub(super) fn taylor_importance(
    checkpoint: &Checkpoint,
    loader: DataLoader,
) -> Result<BTreeMap<ChannelGroup, Vec<f64>>> {
    let mut network = TrainingNetwork::new(checkpoint, TrainingOptions::default())?;
    let mut importance: BTreeMap<ChannelGroup, Vec<f64>> = BTreeMap::new();
    let mut batches = 0;
    for batch in loader {
        // Batch norms need more than one photo.
        let Some(images) = batch.images.filter(|images| images.shape()[0] > 1) else { continue };
        network.gradients_mut().fill(0.0);
        let logits = network.forward(&Input::Pixels(images));
        let classes = batch.classes.into_iter().map(|class| class.expect("the photos have labels"));
        network.backward(&loss_gradients(&logits, &classes.collect::<Vec<_>>()));
        batches += 1;
        for (group, changes) in loss_changes(checkpoint, &network) {
            let sums = importance.entry(group).or_insert_with(|| vec![0.0; changes.len()]);
            sums.iter_mut().zip(changes).for_each(|(sum, change)| *sum += change * change);
        }
    }
    ensure!(batches > 0, "none of the photos for the Taylor importance could be decoded");
    importance.values_mut().flatten().for_each(|sum| *sum /= f64::from(batches));
    Ok(importance)
}

/// Returns the gradient of the mean cross-entropy with respect to the logits `[batch, classes]`.
fn loss_gradients(logits: &[f32], classes: &[usize]) -> Vec<f32> {
    let count = logits.len() / classes.len();
    let mut gradients = Vec::with_capacity(logits.len());
    for (row, &class) in logits.chunks_exact(count).zip(classes) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> = row.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f32 = exponentials.iter().sum();
        gradients.extend(exponentials.into_iter().enumerate().map(|(index, exponential)| {
            (exponential / sum - f32::from(u8::from(index == class))) / classes.len() as f32
        }));
    }
    gradients
}

/// Returns, for each channel, the sum of `γ ∂loss/∂γ + β ∂loss/∂β` over the norms that write it.
fn loss_changes(checkpoint: &Checkpoint, network: &TrainingNetwork) -> BTreeMap<ChannelGroup, Vec<f64>> {
    let ranges: HashMap<&str, _> =
        network.layout().parameters.iter().map(|tensor| (tensor.name.as_str(), tensor.range.clone())).collect();
    let products = |name: String| {
        let range = ranges[name.as_str()].clone();
        let values = network.parameters()[range.clone()].iter().zip(&network.gradients()[range]);
        values.map(|(&value, &gradient)| f64::from(value) * f64::from(gradient)).collect::<Vec<f64>>()
    };
    let architecture = checkpoint.architecture();
    let mut changes: BTreeMap<ChannelGroup, Vec<f64>> = BTreeMap::new();
    for (layer, channels) in architecture.convolutions().iter().zip(architecture.convolution_channels()) {
        let sums = changes.entry(channels.output).or_insert_with(|| vec![0.0; layer.out_channels]);
        for tensor in ["weight", "bias"] {
            let products = products(format!("{}.{tensor}", layer.norm));
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use model::engine::Normalised;
    use model::random::{self, Uniform};

    const CLASSES: [usize; 4] = [0, 3, 1, 2];

    fn loss(checkpoint: &Checkpoint, images: &Input) -> (f64, TrainingNetwork) {
        let mut network = TrainingNetwork::new(checkpoint, TrainingOptions::default()).unwrap();
        let logits = network.forward(images);
        network.backward(&loss_gradients(&logits, &CLASSES));
        let loss = logits.chunks_exact(5).zip(CLASSES).map(|(row, class)| {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            sum.ln() - f64::from(row[class])
        });
        (loss.sum::<f64>() / CLASSES.len() as f64, network)
    }

    /// Compares with the change of the loss when γ and β of all norms that write a channel are scaled by almost one.
    #[test]
    fn changes_of_the_loss_equal_finite_differences() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 5).unwrap());
        let values = Uniform::new(3).take(4 * 3 * 40 * 40).collect();
        let images = Input::Normalised(Normalised::new(values, [4, 40, 40]).unwrap());
        let (_, network) = loss(&checkpoint, &images);
        let changes = loss_changes(&checkpoint, &network);
        let inner = ChannelGroup::Inner { stage: 1, block: 0, convolution: 0 };
        let stage: &[&str] = &["layer3.0.bn2", "layer3.0.downsample.1", "layer3.1.bn2"];
        for (group, norms) in [(inner, &["layer2.0.bn1"][..]), (ChannelGroup::Stage(2), stage)] {
            let largest = changes[&group].iter().fold(0.0f64, |largest, change| largest.max(change.abs()));
            for channel in [0, 17, 90] {
                let scaled = |factor: f32| {
                    let mut tensors = checkpoint.clone().into_values();
                    for norm in norms {
                        for tensor in ["weight", "bias"] {
                            tensors.get_mut(&format!("{norm}.{tensor}")).unwrap()[channel] *= factor;
                        }
                    }
                    loss(&Checkpoint::new(checkpoint.metadata().clone(), tensors).unwrap(), &images).0
                };
                let expected = (scaled(1.002) - scaled(0.998)) / 0.004;
                let actual = changes[&group][channel];
                assert!((actual - expected).abs() < 0.05 * largest, "{group} {channel}: {actual}, not {expected}");
            }
        }
    }
}
