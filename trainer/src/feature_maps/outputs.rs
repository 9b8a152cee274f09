//! Computes the outputs of layers. The engine computes those that a plan has: stem, blocks and stages. All others, which
//! are those of convolutions and batch norms, are computed by the Burn network.

use super::layers::Layer;
use crate::console;
use anyhow::{Context, Result};
use model::checkpoint::Checkpoint;
use model::engine::{Activation, Device, EngineOptions, FallbackEngine, Input, Logits, OnFallback, burn_device};
use model::explain::ClassifierWeights;
use model::network::{ResNet, normalise};
use model::plan::Tap;
use model::preprocess::ImageBatch;
use pollster::block_on;
use std::collections::BTreeMap;

/// The outputs of a network for one image.
pub struct NetworkOutputs {
    pub logits: Logits,
    /// The output of the last stage, for class activation maps.
    pub last_stage: Activation,
    /// The outputs of the requested layers, in the order of the request.
    pub layers: Vec<LayerOutput>,
}

/// The output of a layer for one image.
pub struct LayerOutput {
    pub name: String,
    /// The device that computed the output.
    pub device: Device,
    /// f32 values in row-major order.
    pub values: Vec<f32>,
    /// Shape of the values, `[channels, height, width]`.
    pub shape: [usize; 3],
}

impl NetworkOutputs {
    /// Runs a network for the only image of a batch.
    ///
    /// # Errors
    /// Returns an error if the device is not available or fails.
    pub fn compute(
        checkpoint: &Checkpoint,
        image: &ImageBatch,
        layers: &[Layer],
        device: Device,
        options: EngineOptions,
    ) -> Result<Self> {
        let mut taps = vec![ClassifierWeights::TAP];
        for tap in layers.iter().filter_map(|layer| layer.tap) {
            if !taps.contains(&tap) {
                taps.push(tap);
            }
        }
        let report: OnFallback = |error, device| console::note(format_args!("{error}; falling back to {device}"));
        let engine = block_on(FallbackEngine::prepare(checkpoint.clone(), device, options, report))?;
        let (output, engine_device) = block_on(engine.run(&Input::Pixels(image.clone()), &taps))?;
        let activation = |tap: Tap| {
            let found = output.activations.iter().find(|activation| activation.tap == tap);
            found.cloned().with_context(|| format!("the engine returned no {tap}"))
        };

        let names: Vec<&str> =
            layers.iter().filter(|layer| layer.tap.is_none()).map(|layer| layer.name.as_str()).collect();
        let network_device = network_device(device);
        let mut modules =
            if names.is_empty() { BTreeMap::new() } else { module_outputs(checkpoint, image, &names, network_device)? };
        let layers = layers.iter().map(|layer| {
            let name = layer.name.clone();
            let Some(tap) = layer.tap else {
                return modules.remove(&name).with_context(|| format!("the network has no {name}"));
            };
            let Activation { values, shape: [_, shape @ ..], .. } = activation(tap)?;
            Ok(LayerOutput { name, device: engine_device, values, shape })
        });
        let layers = layers.collect::<Result<_>>()?;
        let last_stage = activation(ClassifierWeights::TAP)?;
        Ok(NetworkOutputs { logits: output.logits, last_stage, layers })
    }
}

/// Returns the device of Burn that computes what the engine of `device` does not: the same one, or the CPU.
fn network_device(device: Device) -> Device {
    match device {
        Device::Cpu | Device::WebGpu(_) => Device::Flex,
        Device::Flex | Device::Wgpu(_) | Device::Cuda(_) => device,
    }
}

/// Returns the outputs of these modules by name.
fn module_outputs(
    checkpoint: &Checkpoint,
    image: &ImageBatch,
    names: &[&str],
    device: Device,
) -> Result<BTreeMap<String, LayerOutput>> {
    let burn_device = block_on(burn_device(device))?;
    let network = ResNet::from_checkpoint(checkpoint, &burn_device);
    let mut outputs = BTreeMap::new();
    network.visit_modules(&checkpoint.architecture(), normalise(image, &burn_device), |name, output| {
        if names.contains(&name) {
            let [_, shape @ ..] = output.dims();
            let (name, values) = (name.to_owned(), output.to_data().iter::<f32>().collect());
            outputs.insert(name.clone(), LayerOutput { name, device, values, shape });
        }
    });
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use model::random;

    #[test]
    fn engine_and_network_compute_consistent_layers() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 5).unwrap());
        let image = ImageBatch::new(random::pixels(1, 48 * 64 * 3), [1, 48, 64], [0.5; 3], [0.25; 3]).unwrap();
        let names = ["layer1.0", "layer1.0.bn2", "relu", "maxpool"].map(str::to_owned);
        let layers = Layer::find(&names, &checkpoint.architecture()).unwrap();
        let outputs =
            NetworkOutputs::compute(&checkpoint, &image, &layers, Device::Cpu, EngineOptions::default()).unwrap();
        assert_eq!(outputs.logits.classes, 5);
        assert_eq!(outputs.last_stage.shape, [1, 512, 2, 2]);
        let [block, norm, relu, pool] = outputs.layers.try_into().ok().unwrap();
        assert_eq!((block.device, norm.device), (Device::Cpu, Device::Flex));
        assert_eq!((block.shape, norm.shape, relu.shape), ([64, 12, 16], [64, 12, 16], [64, 24, 32]));
        // A block without projection adds its input, which is the output of the max-pool.
        for ((block, norm), pool) in block.values.iter().zip(&norm.values).zip(&pool.values) {
            assert!((block - (norm + pool).max(0.0)).abs() < 1e-3, "{block}, expected {norm} + {pool}");
        }
    }
}
