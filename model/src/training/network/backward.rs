//! The backward pass.

use super::super::batch_norm::Following;
use super::super::layers::{BlockLayers, Layer};
use super::super::memory::{Gradient, StoredValue};
use super::super::pooling;
use super::super::profile::Operation;
use super::super::shaped_network::{ShapedLayer, ShapedNetwork};
use super::super::value::Execution;
use super::{ClassifierRange, TrainingNetwork};
use crate::engine::cpu::blocked_shape::BlockedShape;
use std::time::Instant;

impl TrainingNetwork {
    pub(super) fn backward_layers(&mut self, logit_gradients: &[f32], execution: Execution) {
        let shaped = self.shaped.clone().expect("there was a forward pass");
        let start = Instant::now();
        let ClassifierRange { weight, bias } = self.classifier.clone();
        let [weight, bias] =
            self.gradients.get_disjoint_mut([weight, bias]).expect("the ranges of tensors are disjoint");
        let classifier = self.classifier.of(&self.parameters);
        let features = classifier.backward(&self.features, logit_gradients, weight, bias, execution);
        self.profile.add(Operation::Classifier, start);

        let start = Instant::now();
        let last = shaped.block_outputs.last().expect("a network has blocks");
        let mut gradient = self.gradient_buffers.take(BlockedShape { border: 0, ..last.shape });
        pooling::global_average_pool_gradient(&features, gradient.value_mut(), execution);
        self.profile.add(Operation::PoolGradient, start);

        for block in (0..self.blocks.len()).rev() {
            if self.gradient_checkpointing && block + 1 < self.blocks.len() {
                self.forward_block(&shaped, block, false, execution);
            }
            gradient = self.backward_block(&shaped, block, gradient, execution);
        }
        self.backward_stem(&shaped, gradient, execution);
    }

    /// Computes the gradients of a block's parameters, and returns that of its input. `gradient` is that of its output.
    fn backward_block(
        &mut self,
        shaped: &ShapedNetwork,
        block: usize,
        mut gradient: Gradient,
        execution: Execution,
    ) -> Gradient {
        let BlockLayers { convolutions, downsample } = self.blocks[block].clone();
        let last = convolutions.end - 1;
        // From here on, `gradient` is that of the sum of shortcut and last norm.
        let mut inner = self.gradient_buffers.take(shaped.layers[last].gradient);
        let result = &shaped.block_outputs[block];
        let following = Following::ShortcutAndRelu(result);
        self.norm_gradients(shaped, last, following, &mut gradient, Some(&mut inner), execution);
        let shortcut = match downsample {
            None => gradient,
            Some(layer) => {
                let mut projected = self.gradient_buffers.take(shaped.layers[layer].gradient);
                let following = Following::Nothing;
                self.norm_gradients(shaped, layer, following, &mut gradient, Some(&mut projected), execution);
                self.gradient_buffers.release(gradient);
                self.convolution_gradients(shaped, layer, projected, None, execution)
            }
        };
        for layer in convolutions.clone().rev() {
            if layer == convolutions.start {
                let gradient = self.convolution_gradients(shaped, layer, inner, Some(&shortcut), execution);
                self.gradient_buffers.release(shortcut);
                return gradient;
            }
            inner = self.convolution_gradients(shaped, layer, inner, None, execution);
            self.norm_gradients(shaped, layer - 1, Following::Relu, &mut inner, None, execution);
        }
        unreachable!("a block has convolutions")
    }

    fn backward_stem(&mut self, shaped: &ShapedNetwork, mut gradient: Gradient, execution: Execution) {
        let mut following = Following::Relu;
        if let Some(pool) = &self.pool {
            let start = Instant::now();
            let mut unpooled = self.gradient_buffers.take(shaped.layers[0].gradient);
            pool.gradient(gradient.value(), unpooled.value_mut(), execution);
            self.gradient_buffers.release(std::mem::replace(&mut gradient, unpooled));
            // The gradient of the pool is zero where the ReLU is.
            following = Following::Nothing;
            self.profile.add(Operation::PoolGradient, start);
        }
        self.norm_gradients(shaped, 0, following, &mut gradient, None, execution);
        self.weight_gradient(shaped, 0, &gradient, execution);
        self.gradient_buffers.release(gradient);
    }

    /// Computes the gradients of a norm's parameters, and writes that of its input to `output`, by default in place of
    /// `gradient`, which is the gradient after the `following` function.
    fn norm_gradients(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        following: Following<&StoredValue>,
        gradient: &mut Gradient,
        output: Option<&mut Gradient>,
        execution: Execution,
    ) {
        let start = Instant::now();
        let Layer { norm, gamma, beta, .. } = &mut self.layers[layer];
        let input = self.slots.value(&shaped.layers[layer].convolved);
        let following = following.map(|stored| self.slots.value(stored));
        let parameters =
            self.gradients.get_disjoint_mut([gamma.clone(), beta.clone()]).expect("the ranges of tensors are disjoint");
        let gradient = gradient.value_mut();
        norm.parameter_gradients(input, gradient, following, parameters, execution);
        let output = output.map_or(gradient, Gradient::value_mut);
        norm.input_gradient(input, gradient, following, output, execution);
        self.profile.add(Operation::NormGradient, start);
    }

    /// Computes the gradients of a convolution's weights and input, and adds `residual` to the latter. `gradient` is
    /// that of its output.
    fn convolution_gradients(
        &mut self,
        shaped: &ShapedNetwork,
        layer: usize,
        gradient: Gradient,
        residual: Option<&Gradient>,
        execution: Execution,
    ) -> Gradient {
        self.weight_gradient(shaped, layer, &gradient, execution);
        let start = Instant::now();
        let ShapedLayer { schedule, input_gradient, .. } = &shaped.layers[layer];
        let mut result = self.gradient_buffers.take(*input_gradient);
        self.layers[layer].convolution.input_gradient(
            schedule,
            gradient.value(),
            residual.map(Gradient::value),
            result.value_mut(),
            &mut self.scratch.lend(),
            execution,
        );
        self.gradient_buffers.release(gradient);
        self.profile.add(Operation::InputGradient, start);
        result
    }

    fn weight_gradient(&mut self, shaped: &ShapedNetwork, layer: usize, gradient: &Gradient, execution: Execution) {
        let start = Instant::now();
        let ShapedLayer { input, schedule, .. } = &shaped.layers[layer];
        let input = input.as_ref().map_or(self.slots.raw(shaped.image_slot), |input| self.slots.value(input).values);
        let target = &mut self.gradients[self.layers[layer].weight.clone()];
        schedule.weight_gradient.run(input, gradient.value(), target, &mut self.scratch.shared, execution);
        self.profile.add(Operation::WeightGradient, start);
    }
}
