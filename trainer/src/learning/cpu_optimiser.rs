//! SGD, AdamW and LAMB on arrays of f32: one pass over parameters, gradients and state, on all threads.
//!
//! They compute what Burn's optimisers compute in the configuration of [`optimiser`](super::optimiser), except for the
//! rounding of intermediate results.

use super::optimiser::{ADAMW_EPSILON, DEFAULT_BETAS, LAMB_EPSILON};
use crate::recipe::{OptimiserKind, Recipe};
use anyhow::{Context, Result, ensure};
use model::architecture::TensorKind;
use model::training::TensorRange;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::ops::Range;

/// Number of values that a task updates. Sums over a tensor are added in the order of the tasks.
const VALUES_PER_TASK: usize = 1 << 16;
/// Key of the number of steps in the serialised state.
const STEPS: &str = "steps";

/// An optimiser with its state.
pub struct CpuOptimiser {
    rule: UpdateRule,
    tensors: Vec<DecayedTensor>,
    /// One or two values per parameter: the momentum, or the first and the second moment.
    moments: Vec<Vec<f32>>,
    /// Number of steps so far.
    steps: u64,
}

/// A tensor with its weight decay.
struct DecayedTensor {
    range: Range<usize>,
    decay: f32,
}

/// How parameters are updated.
#[derive(Clone, Copy)]
enum UpdateRule {
    Sgd { momentum: f32, nesterov: bool },
    Adamw(AdamParameters),
    Lamb(AdamParameters),
}

/// Parameters of Adam's moments.
#[derive(Clone, Copy)]
struct AdamParameters {
    betas: [f64; 2],
    epsilon: f64,
}

impl CpuOptimiser {
    /// Creates the recipe's optimiser for an array that consists of `tensors`.
    pub fn new(recipe: &Recipe, tensors: &[TensorRange]) -> Self {
        let betas = recipe.betas.unwrap_or(DEFAULT_BETAS);
        let adam = |epsilon: f64| AdamParameters { betas, epsilon: recipe.epsilon.unwrap_or(epsilon) };
        let (rule, moment_count) = match recipe.optimiser {
            OptimiserKind::Sgd => {
                let momentum = recipe.momentum.unwrap_or(0.0) as f32;
                (UpdateRule::Sgd { momentum, nesterov: recipe.nesterov }, usize::from(momentum > 0.0))
            }
            OptimiserKind::Adamw => (UpdateRule::Adamw(adam(ADAMW_EPSILON)), 2),
            OptimiserKind::Lamb => (UpdateRule::Lamb(adam(LAMB_EPSILON)), 2),
        };
        let length = tensors.last().map_or(0, |last| last.range.end);
        let tensors = tensors.iter().map(|tensor| {
            let decays = tensor.kind == TensorKind::Matrix || recipe.decay_norms_and_biases;
            DecayedTensor { range: tensor.range.clone(), decay: if decays { recipe.weight_decay as f32 } else { 0.0 } }
        });
        CpuOptimiser { rule, tensors: tensors.collect(), moments: vec![vec![0.0; length]; moment_count], steps: 0 }
    }

    /// Takes a step with the gradients multiplied by `factor`, and sets the gradients to zero.
    pub fn step(&mut self, parameters: &mut [f32], gradients: &mut [f32], learning_rate: f64, factor: f64) {
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let factor = factor as f32;
        let mut rest =
            Arrays { parameters, gradients, moments: self.moments.iter_mut().map(Vec::as_mut_slice).collect() };
        for tensor in &self.tensors {
            let mut values = rest.take(tensor.range.len());
            match self.rule {
                UpdateRule::Sgd { momentum, nesterov } => {
                    let rate = learning_rate as f32;
                    values.for_each_part(|part| sgd(part, rate, factor, tensor.decay, momentum, nesterov));
                }
                UpdateRule::Adamw(parameters) => {
                    let decay = (1.0 - learning_rate * f64::from(tensor.decay)) as f32;
                    let adam = AdamStep::new(parameters, steps);
                    values.for_each_part(|part| {
                        adam.update(part, factor, |parameter, update| {
                            *parameter = *parameter * decay - learning_rate as f32 * update;
                        });
                    });
                }
                UpdateRule::Lamb(parameters) => {
                    let adam = AdamStep::new(parameters, steps);
                    // The gradients hold the updates until the trust ratio of the tensor is known.
                    let sums = values.for_each_part(|part| adam.lamb_updates(part, factor, tensor.decay));
                    let [parameter_norm, update_norm] =
                        [0, 1].map(|index| sums.iter().map(|sums| sums[index]).sum::<f64>().sqrt());
                    let is_valid = parameter_norm > 0.0 && update_norm > 0.0;
                    let trust_ratio = if is_valid { parameter_norm / update_norm } else { 1.0 };
                    let rate = (learning_rate * trust_ratio) as f32;
                    values.for_each_part(|Arrays { parameters, gradients, .. }| {
                        for (parameter, update) in parameters.iter_mut().zip(gradients.iter_mut()) {
                            *parameter -= rate * *update;
                            *update = 0.0;
                        }
                    });
                }
            }
        }
    }

    /// Serialises the state.
    ///
    /// # Errors
    /// Returns an error if the state is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes: Vec<Vec<u8>> =
            self.moments.iter().map(|moment| moment.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
        let mut views = Vec::new();
        for (index, bytes) in bytes.iter().enumerate() {
            views.push((moment_name(index), TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?));
        }
        Ok(serialize(views, Some(HashMap::from([(STEPS.to_owned(), self.steps.to_string())])))?)
    }

    /// Restores the state that [`to_bytes`](Self::to_bytes) returned.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a state of this optimiser.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let steps = metadata.metadata().as_ref().and_then(|metadata| metadata.get(STEPS));
        self.steps = steps.context("the number of steps is missing")?.parse()?;
        let tensors = SafeTensors::deserialize(bytes)?;
        for (index, moment) in self.moments.iter_mut().enumerate() {
            let view = tensors.tensor(&moment_name(index))?;
            let values = view.data().as_chunks::<4>().0;
            ensure!(
                values.len() == moment.len(),
                "{} has {} values, but the network has {} parameters",
                moment_name(index),
                values.len(),
                moment.len()
            );
            moment.iter_mut().zip(values).for_each(|(moment, bytes)| *moment = f32::from_le_bytes(*bytes));
        }
        Ok(())
    }
}

fn moment_name(index: usize) -> String {
    format!("moment{index}")
}

/// Parameters, gradients and moments of the same range.
struct Arrays<'a> {
    parameters: &'a mut [f32],
    gradients: &'a mut [f32],
    moments: Vec<&'a mut [f32]>,
}

impl<'a> Arrays<'a> {
    /// Splits off the first `count` values.
    fn take(&mut self, count: usize) -> Arrays<'a> {
        fn split<'a>(values: &mut &'a mut [f32], count: usize) -> &'a mut [f32] {
            values.split_off_mut(..count).expect("there are enough values")
        }
        Arrays {
            parameters: split(&mut self.parameters, count),
            gradients: split(&mut self.gradients, count),
            moments: self.moments.iter_mut().map(|moment| split(moment, count)).collect(),
        }
    }

    /// Calls `task` for one part of the values after the other, on all threads, and returns the results in order.
    fn for_each_part<T: Send>(&mut self, task: impl Fn(Arrays) -> T + Sync) -> Vec<T> {
        let mut rest = Arrays {
            parameters: self.parameters,
            gradients: self.gradients,
            moments: self.moments.iter_mut().map(|moment| &mut **moment).collect(),
        };
        let mut parts = Vec::new();
        while !rest.parameters.is_empty() {
            parts.push(rest.take(rest.parameters.len().min(VALUES_PER_TASK)));
        }
        parts.into_par_iter().map(&task).collect()
    }
}

/// Takes a step of SGD as in `torch.optim.SGD`: weight decay is added to the gradient.
fn sgd(arrays: Arrays, rate: f32, factor: f32, decay: f32, momentum: f32, nesterov: bool) {
    let Arrays { parameters, gradients, mut moments } = arrays;
    let Some(velocities) = moments.pop() else {
        for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
            *parameter -= rate * (*gradient * factor + decay * *parameter);
            *gradient = 0.0;
        }
        return;
    };
    for ((parameter, gradient), velocity) in parameters.iter_mut().zip(gradients).zip(velocities) {
        let decayed = *gradient * factor + decay * *parameter;
        *velocity = momentum * *velocity + decayed;
        let direction = if nesterov { decayed + momentum * *velocity } else { *velocity };
        *parameter -= rate * direction;
        *gradient = 0.0;
    }
}

/// Factors of Adam's update at a step.
#[derive(Clone, Copy)]
struct AdamStep {
    betas: [f32; 2],
    /// `1 - beta`.
    complements: [f32; 2],
    /// Corrections of the moments' bias.
    corrections: [f32; 2],
    epsilon: f32,
}

impl AdamStep {
    fn new(AdamParameters { betas, epsilon }: AdamParameters, steps: i32) -> Self {
        AdamStep {
            betas: betas.map(|beta| beta as f32),
            complements: betas.map(|beta| (1.0 - beta) as f32),
            corrections: betas.map(|beta| (1.0 / (1.0 - beta.powi(steps))) as f32),
            epsilon: epsilon as f32,
        }
    }

    /// Updates the moments of one value, and returns the normalised update.
    fn next(self, gradient: f32, first: &mut f32, second: &mut f32) -> f32 {
        *first = self.betas[0] * *first + self.complements[0] * gradient;
        *second = self.betas[1] * *second + self.complements[1] * gradient * gradient;
        (*first * self.corrections[0]) / ((*second * self.corrections[1]).sqrt() + self.epsilon)
    }

    /// Calls `apply` with each parameter and its update, and sets the gradients to zero.
    fn update(self, arrays: Arrays, factor: f32, apply: impl Fn(&mut f32, f32)) {
        let Arrays { parameters, gradients, moments } = arrays;
        let [first, second] = moments.try_into().unwrap_or_else(|_| unreachable!("Adam has two moments"));
        let values = parameters.iter_mut().zip(gradients).zip(first).zip(second);
        for (((parameter, gradient), first), second) in values {
            apply(parameter, self.next(*gradient * factor, first, second));
            *gradient = 0.0;
        }
    }

    /// Replaces the gradients by LAMB's updates, and returns the sums of squares of parameters and updates.
    fn lamb_updates(self, arrays: Arrays, factor: f32, decay: f32) -> [f64; 2] {
        let Arrays { parameters, gradients, moments } = arrays;
        let [first, second] = moments.try_into().unwrap_or_else(|_| unreachable!("LAMB has two moments"));
        let values = parameters.iter().zip(gradients).zip(first).zip(second);
        let mut sums = [0.0; 2];
        for (((parameter, gradient), first), second) in values {
            *gradient = self.next(*gradient * factor, first, second) + decay * parameter;
            sums[0] += f64::from(*parameter).powi(2);
            sums[1] += f64::from(*gradient).powi(2);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn optimiser(changes: &[&str]) -> CpuOptimiser {
        let tensor = |name: &str, kind, range| TensorRange { name: name.to_owned(), kind, range };
        let tensors = [tensor("weight", TensorKind::Matrix, 0..100), tensor("bias", TensorKind::Vector, 100..110)];
        CpuOptimiser::new(&Recipe::finetune_with(changes), &tensors)
    }

    /// Takes some steps on the gradient `parameter + step`.
    fn steps(optimiser: &mut CpuOptimiser, parameters: &mut [f32], count: usize) {
        for step in 0..count {
            let mut gradients: Vec<f32> = parameters.iter().map(|parameter| parameter + step as f32).collect();
            optimiser.step(parameters, &mut gradients, 0.01, 0.5);
            assert!(gradients.iter().all(|&gradient| gradient == 0.0), "the gradients are discarded");
        }
    }

    #[test]
    fn restored_optimiser_continues_like_the_saved_one() {
        let adam = ["momentum=", "nesterov="];
        for changes in [
            &["weight-decay=0.1"][..],
            &[&adam[..], &["optimiser=adamw"]].concat(),
            &[&adam[..], &["optimiser=lamb"]].concat(),
        ] {
            let (mut original, mut parameters) = (optimiser(changes), vec![1.0; 110]);
            steps(&mut original, &mut parameters, 3);
            let (mut restored, mut same_parameters) = (optimiser(changes), parameters.clone());
            restored.restore(&original.to_bytes().unwrap()).unwrap();
            steps(&mut original, &mut parameters, 3);
            steps(&mut restored, &mut same_parameters, 3);
            assert_eq!(parameters, same_parameters, "{changes:?}");
        }
    }

    #[test]
    fn states_of_other_networks_are_rejected() {
        let mut bytes = optimiser(&[]).to_bytes().unwrap();
        let mut other = optimiser(&[]);
        other.moments[0].pop();
        let error = other.restore(&bytes).unwrap_err().to_string();
        assert_eq!(error, "moment0 has 110 values, but the network has 109 parameters");
        bytes.truncate(bytes.len() / 2);
        assert!(other.restore(&bytes).is_err());
    }
}
