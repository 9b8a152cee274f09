//! Removal of channels from a checkpoint: a smaller network with the weights of the channels that stay.

use anyhow::Result;
use model::architecture::{ChannelGroup, ConvolutionChannels};
use model::checkpoint::{Checkpoint, Metadata};
use std::collections::BTreeMap;

/// The channels that stay in each group, in ascending order. Groups that are absent stay whole.
pub type KeptChannels = BTreeMap<ChannelGroup, Vec<usize>>;

/// Returns the network without the other channels. It computes what the original network computes if these channels are zero.
///
/// # Errors
/// Returns an error if the numbers of channels are not valid widths.
pub fn narrow(checkpoint: &Checkpoint, kept: &KeptChannels) -> Result<Checkpoint> {
    let architecture = checkpoint.architecture();
    let channels = architecture.convolution_channels();
    let mut widths = architecture.widths();
    for (&group, kept) in kept {
        widths.set(group, kept.len());
        if channels[0].output == group {
            widths.set(ChannelGroup::Stem, kept.len());
        }
    }
    let metadata = Metadata { architecture: architecture.with_widths(widths)?, ..checkpoint.metadata().clone() };

    let mut tensors = BTreeMap::new();
    for (layer, ConvolutionChannels { input, output }) in architecture.convolutions().iter().zip(channels) {
        let outputs = kept.get(&output).map(Vec::as_slice);
        // In a layer with groups, the input channels of a filter are those of its own group, which all stay.
        let inputs = input.filter(|_| layer.groups == 1).and_then(|group| kept.get(&group)).map(Vec::as_slice);
        let weight = checkpoint.values(&format!("{}.weight", layer.name));
        let area = layer.kernel * layer.kernel;
        let in_channels = layer.in_channels / layer.groups;
        tensors.insert(
            format!("{}.weight", layer.name),
            select_rows(&select_columns(&weight, in_channels, area, inputs), layer.out_channels, outputs),
        );
        for tensor in ["weight", "bias", "running_mean", "running_var"] {
            let name = format!("{}.{tensor}", layer.norm);
            let values = select_rows(&checkpoint.values(&name), layer.out_channels, outputs);
            tensors.insert(name, values);
        }
    }
    let features = kept.get(&ChannelGroup::Stage(3)).map(Vec::as_slice);
    let weight = select_columns(&checkpoint.values("fc.weight"), architecture.features(), 1, features);
    tensors.insert("fc.weight".to_owned(), weight);
    tensors.insert("fc.bias".to_owned(), checkpoint.values("fc.bias"));
    Ok(Checkpoint::new(metadata, tensors)?)
}

/// Selects along the first of two dimensions, `[rows, _]`.
fn select_rows(values: &[f32], rows: usize, kept: Option<&[usize]>) -> Vec<f32> {
    let Some(kept) = kept else { return values.to_vec() };
    let length = values.len() / rows;
    kept.iter().flat_map(|&row| &values[row * length..][..length]).copied().collect()
}

/// Selects along the second of three dimensions, `[_, columns, area]`.
fn select_columns(values: &[f32], columns: usize, area: usize, kept: Option<&[usize]>) -> Vec<f32> {
    values.chunks_exact(columns * area).flat_map(|row| select_rows(row, columns, kept)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use model::engine::{Device, Engine, Input};
    use model::plan::{Plan, Tap};
    use model::preprocess::ImageBatch;
    use model::random;
    use pollster::block_on;

    /// Keeps channels that are spread over each group.
    fn kept(architecture: &Architecture) -> KeptChannels {
        let widths = architecture.widths();
        let groups = architecture.channel_groups().into_iter().enumerate();
        let keep = |(index, group): (usize, ChannelGroup)| {
            let width = widths.get(group);
            let count = (width / [2, 3, 1][index % 3]).next_multiple_of(16).min(width);
            let mut channels: Vec<usize> =
                (0..width).map(|channel| (channel * 7 + index) % width).take(count).collect();
            channels.sort();
            (group, channels)
        };
        groups.map(keep).collect()
    }

    /// Sets scale and shift of the channels that are removed to zero, so that their outputs are zero.
    fn masked(checkpoint: &Checkpoint, kept: &KeptChannels) -> Checkpoint {
        let architecture = checkpoint.architecture();
        let mut tensors = checkpoint.clone().into_values();
        for (layer, channels) in architecture.convolutions().iter().zip(architecture.convolution_channels()) {
            let Some(kept) = kept.get(&channels.output) else { continue };
            for tensor in ["weight", "bias"] {
                let values = tensors.get_mut(&format!("{}.{tensor}", layer.norm)).unwrap();
                (0..values.len()).filter(|channel| !kept.contains(channel)).for_each(|channel| values[channel] = 0.0);
            }
        }
        Checkpoint::new(checkpoint.metadata().clone(), tensors).unwrap()
    }

    #[test]
    fn narrowed_network_equals_the_network_with_zeros_on_every_device() {
        let webgpu = cfg!(feature = "webgpu").then_some(Device::WebGpu(0));
        let devices: Vec<Device> = [Device::Cpu, Device::Flex].into_iter().chain(webgpu).collect();
        for name in ["resnet18", "resnet50", "resnext50_32x4d"] {
            let checkpoint = random::checkpoint(Architecture::new(name, 7).unwrap());
            let kept = kept(&checkpoint.architecture());
            assert!(kept.iter().any(|(group, kept)| kept.len() < checkpoint.architecture().widths().get(*group)));
            let narrow = narrow(&checkpoint, &kept).unwrap();
            assert!(narrow.architecture().multiply_adds(64) < checkpoint.architecture().multiply_adds(64) * 9 / 10);
            let narrow = Checkpoint::from_bytes(&narrow.to_bytes()).unwrap();
            let pixels = random::pixels(5, 2 * 64 * 64 * 3);
            let images = ImageBatch::new(pixels, [2, 64, 64], [0.5; 3], [0.25; 3]).unwrap();
            for &device in &devices {
                let run = |checkpoint: &Checkpoint| {
                    let engine = block_on(Engine::prepare(Plan::new(checkpoint), device)).unwrap();
                    block_on(engine.run(&Input::Pixels(images.clone()), &[Tap::Stem])).unwrap().logits.values
                };
                let (actual, expected) = (run(&narrow), run(&masked(&checkpoint, &kept)));
                let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                for (actual, expected) in actual.iter().zip(&expected) {
                    assert!((actual - expected).abs() < 1e-5 * largest, "{name} on {device}: {actual}, not {expected}");
                }
            }
        }
    }
}
