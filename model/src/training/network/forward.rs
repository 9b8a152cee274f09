//! The forward pass.

use super::super::batch_norm::{RunningStatistics, Shortcut};
use super::super::layers::{BlockLayers, Layer};
use super::super::memory::StoredValue;
use super::super::pooling;
use super::super::profile::Operation;
use super::super::shaped_network::{ShapedLayer, ShapedNetwork};
use super::super::value::Execution;
use super::TrainingNetwork;
use crate::engine::Input;
use std::time::Instant;

impl TrainingNetwork {
    pub(super) fn forward_layers(&mut self, input: &Input, execution: Execution) -> Vec<f32> {
        let shaped = self.shaped.clone().expect("the shape is prepared");
        let start = Instant::now();
        shaped.image.write_input(input, 0, self.slots.raw_mut(shaped.image_slot), execution.threads);
        self.profile.add(Operation::Input, start);
        self.convolve(&shaped, 0, execution);
        self.compute_statistics(&shaped, 0, execution);
        if let Some(pool) = &mut self.pool {
            let start = Instant::now();
            let coefficients = self.layers[0].norm.coefficients();
            self.slots.write(&shaped.stem_output, |slots, output| {
                pool.forward(coefficients, slots.value(&shaped.layers[0].convolved), output, execution);
            });
            self.profile.add(Operation::Pool, start);
        } else {
            self.normalise(&shaped, 0, None, &shaped.stem_output, execution);
        }
        for block in 0..self.blocks.len() {
            self.forward_block(&shaped, block, true, execution);
        }
        let start = Instant::now();
        self.features.resize(shaped.shape[0] * self.architecture.features(), 0.0);
        let last = shaped.block_outputs.last().expect("a network has blocks");
        pooling::global_average_pool(self.slots.value(last), &mut self.features, execution);
        let logits = self.classifier.of(&self.parameters).forward(&self.features, execution);
        self.profile.add(Operation::Classifier, start);
        logits
    }

    /// Computes a block. Without `with_statistics`, computes only the values that the block does not keep, with the
    /// statistics of the first computation.
    pub(super) fn forward_block(
        &mut self,
        shaped: &ShapedNetwork,
        block: usize,
        with_statistics: bool,
        execution: Execution,
    ) {
        let BlockLayers { convolutions, downsample } = self.blocks[block].clone();
        for layer in convolutions.clone().chain(downsample) {
            self.convolve(shaped, layer, execution);
            if with_statistics {
                self.compute_statistics(shaped, layer, execution);
            }
            if let Some(normalised) = &shaped.layers[layer].normalised {
                self.normalise(shaped, layer, None, normalised, execution);
            }
        }
        // The output of the block is kept.
        if with_statistics {
            self.normalise(shaped, convolutions.end - 1, Some(block), &shaped.block_outputs[block], execution);
        }
    }

    fn convolve(&mut self, shaped: &ShapedNetwork, layer: usize, execution: Execution) {
        let start = Instant::now();
        let ShapedLayer { input, convolved, schedule, .. } = &shaped.layers[layer];
        let (convolution, scratch) = (&self.layers[layer].convolution, &mut self.scratch.lend());
        self.slots.write(convolved, |slots, output| {
            let values = input.as_ref().map_or(slots.raw(shaped.image_slot), |input| slots.value(input).values);
            let input_shape = input.as_ref().map(|input| &input.shape);
            convolution.forward(schedule, values, input_shape, output, scratch, execution);
        });
        self.profile.add(Operation::Convolution, start);
    }

    fn compute_statistics(&mut self, shaped: &ShapedNetwork, layer: usize, execution: Execution) {
        let start = Instant::now();
        let Layer { norm, gamma, beta, mean, variance, .. } = &mut self.layers[layer];
        let [mean, variance] = self
            .statistics
            .get_disjoint_mut([mean.clone(), variance.clone()])
            .expect("the ranges of tensors are disjoint");
        norm.compute_statistics(
            self.slots.value(&shaped.layers[layer].convolved),
            [&self.parameters[gamma.clone()], &self.parameters[beta.clone()]],
            RunningStatistics { mean, variance },
            execution,
        );
        self.profile.add(Operation::Norm, start);
    }

    /// Applies norm and ReLU of a layer, and before the ReLU the shortcut of the block whose last layer it is.
    fn normalise(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        block: Option<usize>,
        output: &StoredValue,
        execution: Execution,
    ) {
        let start = Instant::now();
        let (layers, blocks) = (&self.layers, &self.blocks);
        self.slots.write(output, |slots, output| {
            let shortcut = match block.map(|block| (block, blocks[block].downsample)) {
                None => Shortcut::None,
                Some((block, None)) => Shortcut::Identity(slots.value(shaped.block_input(block))),
                Some((_, Some(projection))) => Shortcut::Projection(
                    slots.value(&shaped.layers[projection].convolved),
                    layers[projection].norm.coefficients(),
                ),
            };
            layers[layer].norm.apply(slots.value(&shaped.layers[layer].convolved), shortcut, output, execution);
        });
        self.profile.add(Operation::Norm, start);
    }
}
