//! Stochastic gradient descent as PyTorch does it: weight decay is added to the gradient, momentum is not dampened.

use crate::recipe::Recipe;
use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{ModuleOptimizer, SgdConfig};

/// For a [`ResNet`](model::network::ResNet): one-dimensional parameters decay only if the recipe says so.
pub fn sgd(recipe: &Recipe) -> ModuleOptimizer {
    let config = SgdConfig::new().with_momentum(recipe.momentum.filter(|momentum| *momentum > 0.0).map(|momentum| {
        // Burn dampens by 0.1 if nothing is said.
        MomentumConfig::new().with_momentum(momentum).with_dampening(0.0).with_nesterov(recipe.nesterov)
    }));
    let decay = (recipe.weight_decay > 0.0).then(|| WeightDecayConfig::new(recipe.weight_decay as f32));
    let optimiser = config.clone().with_weight_decay(decay).init();
    if recipe.decay_norms_and_biases {
        return optimiser;
    }
    let group = ParamGroup::from_regex(r"(^|\.)(gamma|beta|bias)$").expect("the pattern is one");
    optimiser.with_group(group, config.build(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Two {
        weight: Param<Tensor<1>>,
        bias: Param<Tensor<1>>,
    }

    /// Five steps on `weight * 3 + bias * 3`, and the same on two numbers by the lines of PyTorch's documentation.
    fn assert_steps(changes: &[&str], decay_bias: bool, nesterov: bool) {
        let recipe = Recipe::changed(changes);
        let momentum = recipe.momentum.unwrap();
        let mut optimiser = sgd(&recipe);
        let device = Device::flex().autodiff();
        let parameter = || Param::from_tensor(Tensor::<1>::from_floats([2.0], &device));
        let mut module = Two { weight: parameter(), bias: parameter() };
        let (mut expected, mut velocity) = ([2.0_f64; 2], [0.0; 2]);
        for step in 0..5 {
            let rate = 0.1 / (step + 1) as f64;
            let loss = (module.weight.val() + module.bias.val()) * 3.0;
            let gradients = GradientsParams::from_grads(loss.sum().backward(), &module);
            module = optimiser.step(rate, module, gradients);
            for (index, decays) in [true, decay_bias].into_iter().enumerate() {
                let gradient = 3.0 + if decays { recipe.weight_decay * expected[index] } else { 0.0 };
                velocity[index] = momentum * velocity[index] + gradient;
                let direction = if nesterov { gradient + momentum * velocity[index] } else { velocity[index] };
                expected[index] -= rate * direction;
            }
        }
        for (parameter, expected) in [&module.weight, &module.bias].into_iter().zip(expected) {
            let found = parameter.val().into_data().iter::<f64>().next().unwrap();
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}: {changes:?}");
        }
    }

    #[test]
    fn steps_are_those_of_pytorch() {
        assert_steps(&["weight-decay=0.1"], false, true);
        assert_steps(&["weight-decay=0.1", "decay-norms-and-biases=true", "nesterov=false"], true, false);
        assert_steps(&["weight-decay=0.1", "momentum=0", "nesterov=false"], false, false);
    }
}
