//! Burn's optimisers, configured to match PyTorch's.

use crate::recipe::{OptimiserKind, Recipe};
use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, DynOptimizer, LambConfig, ModuleOptimizer, SgdConfig};

/// Returns the recipe's optimiser for a [`ResNet`](model::network::ResNet). Weight decay is applied to one-dimensional
/// parameters only with `decay-norms-and-biases`.
pub fn optimiser(recipe: &Recipe) -> ModuleOptimizer {
    match recipe.optimiser {
        OptimiserKind::Sgd => {
            with_decay_groups(recipe, |decay| sgd(recipe, decay).build(), |decay| sgd(recipe, decay).init())
        }
        OptimiserKind::Adamw => {
            with_decay_groups(recipe, |decay| adamw(recipe, decay).build(), |decay| adamw(recipe, decay).init())
        }
        OptimiserKind::Lamb => {
            with_decay_groups(recipe, |decay| lamb(recipe, decay).build(), |decay| lamb(recipe, decay).init())
        }
    }
}

/// Combines an optimiser for all parameters with a parameter group without weight decay, if the recipe needs one.
/// `build` and `init` take the weight decay.
fn with_decay_groups<O: DynOptimizer + 'static>(
    recipe: &Recipe,
    build: impl Fn(f64) -> O,
    init: impl Fn(f64) -> ModuleOptimizer,
) -> ModuleOptimizer {
    let optimiser = init(recipe.weight_decay);
    if recipe.decay_norms_and_biases {
        return optimiser;
    }
    let group = ParamGroup::from_regex(r"(^|\.)(gamma|beta|bias)$").expect("the pattern is valid");
    optimiser.with_group(group, build(0.0), None)
}

/// Returns the configuration of SGD. As in `torch.optim.SGD`, weight decay is added to the gradient.
fn sgd(recipe: &Recipe, decay: f64) -> SgdConfig {
    let momentum = recipe.momentum.filter(|momentum| *momentum > 0.0).map(|momentum| {
        // Burn's default dampening is 0.1, PyTorch's is 0.
        MomentumConfig::new().with_momentum(momentum).with_dampening(0.0).with_nesterov(recipe.nesterov)
    });
    let decay = (decay > 0.0).then(|| WeightDecayConfig::new(decay as f32));
    SgdConfig::new().with_momentum(momentum).with_weight_decay(decay)
}

/// Default decay rates of Adam's moments.
pub const DEFAULT_BETAS: [f64; 2] = [0.9, 0.999];
/// Default of the value that AdamW adds to the square root of the second moment.
pub const ADAMW_EPSILON: f64 = 1e-8;
/// Default of the value that LAMB adds to the square root of the second moment.
pub const LAMB_EPSILON: f64 = 1e-6;

fn adamw(recipe: &Recipe, decay: f64) -> AdamWConfig {
    let [beta_1, beta_2] = recipe.betas.unwrap_or(DEFAULT_BETAS).map(|beta| beta as f32);
    let config = AdamWConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).with_weight_decay(decay as f32);
    config.with_epsilon(recipe.epsilon.unwrap_or(ADAMW_EPSILON) as f32)
}

fn lamb(recipe: &Recipe, decay: f64) -> LambConfig {
    let [beta_1, beta_2] = recipe.betas.unwrap_or(DEFAULT_BETAS).map(|beta| beta as f32);
    let config = LambConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).with_weight_decay(decay as f32);
    config.with_epsilon(recipe.epsilon.unwrap_or(LAMB_EPSILON) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct WeightAndBias {
        weight: Param<Tensor<1>>,
        bias: Param<Tensor<1>>,
    }

    /// Takes five steps on `weight * 3 + bias * 3`, and compares them with the algorithm in PyTorch's documentation of
    /// `SGD`.
    fn assert_steps(changes: &[&str], decay_bias: bool, nesterov: bool) {
        let recipe = Recipe::finetune_with(changes);
        let momentum = recipe.momentum.unwrap();
        let mut optimiser = super::optimiser(&recipe);
        let device = Device::flex().autodiff();
        let parameter = || Param::from_tensor(Tensor::<1>::from_floats([2.0], &device));
        let mut module = WeightAndBias { weight: parameter(), bias: parameter() };
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
            let actual = parameter.val().into_data().iter::<f64>().next().unwrap();
            assert!((actual - expected).abs() < 1e-5, "{actual}, not {expected}: {changes:?}");
        }
    }

    #[test]
    fn sgd_steps_match_pytorch() {
        assert_steps(&["weight-decay=0.1"], false, true);
        assert_steps(&["weight-decay=0.1", "decay-norms-and-biases=true", "nesterov=false"], true, false);
        assert_steps(&["weight-decay=0.1", "momentum=0", "nesterov=false"], false, false);
    }
}
