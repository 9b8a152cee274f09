//! The learning rate of every step: PyTorch's `LinearLR` in front of `CosineAnnealingLR`, `StepLR` or nothing, as
//! `SequentialLR` joins them, advanced with each step instead of each epoch.

use crate::recipe::{Recipe, LearningRateSchedule};
use std::f64::consts::PI;

/// A learning rate as a function of the step.
pub struct LearningRate {
    /// At its highest.
    base: f64,
    /// The share of it that the warm-up begins with.
    warmup_factor: f64,
    /// Steps of the warm-up.
    warmup: usize,
    fall: Fall,
}

enum Fall {
    Constant,
    Cosine { steps: usize },
    Step { every: usize, factor: f64 },
}

impl LearningRate {
    pub fn new(recipe: &Recipe, steps_per_epoch: usize) -> Self {
        let warmup = (recipe.warmup_epochs * steps_per_epoch as f64).round() as usize;
        let fall = match (recipe.schedule, recipe.step_epochs, recipe.step_factor) {
            (LearningRateSchedule::Step, Some(epochs), Some(factor)) => Fall::Step { every: epochs * steps_per_epoch, factor },
            (LearningRateSchedule::Cosine, ..) => Fall::Cosine { steps: recipe.epochs * steps_per_epoch - warmup },
            _ => Fall::Constant,
        };
        LearningRate { base: recipe.learning_rate, warmup_factor: recipe.warmup_factor.unwrap_or(1.0), warmup, fall }
    }

    /// Steps of the warm-up.
    pub fn warmup(&self) -> usize {
        self.warmup
    }

    /// Of a step, counted from 0 over all epochs.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            let way = step as f64 / self.warmup as f64;
            return self.base * (self.warmup_factor + (1.0 - self.warmup_factor) * way);
        }
        let step = step - self.warmup;
        match self.fall {
            Fall::Constant => self.base,
            Fall::Cosine { steps } => self.base * (1.0 + (PI * step as f64 / steps as f64).cos()) / 2.0,
            Fall::Step { every, factor } => self.base * factor.powi((step / every) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five steps an epoch.
    fn rates(changes: &[&str], steps: &[usize]) -> Vec<f64> {
        let given = ["learning-rate=0.4", "epochs=4", "warmup-epochs=0.8", "warmup-factor=0.25"];
        let rate = LearningRate::new(&Recipe::finetune_with(&[&given, changes].concat()), 5);
        steps.iter().map(|&step| rate.at(step)).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        let near = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{found:?}, not {expected:?}");
    }

    /// `SequentialLR([LinearLR(start_factor=0.25, total_iters=4), CosineAnnealingLR(T_max=16)], milestones=[4])`
    #[test]
    fn cosine_behind_a_warm_up() {
        let expected = [0.1, 0.175, 0.25, 0.325, 0.4, 0.396_157_056_080_646_1, 0.2, 0.003_842_943_919_353_914];
        assert_near(&rates(&[], &[0, 1, 2, 3, 4, 5, 12, 19]), &expected);
    }

    /// `StepLR(step_size=10, gamma=0.1)` behind the same.
    #[test]
    fn steps_behind_a_warm_up() {
        let changes = ["schedule=step", "step-epochs=2", "step-factor=0.1"];
        assert_near(&rates(&changes, &[0, 4, 13, 14, 19]), &[0.1, 0.4, 0.4, 0.04, 0.04]);
    }

    #[test]
    fn constant_behind_a_warm_up() {
        assert_near(&rates(&["schedule=constant"], &[2, 4, 19]), &[0.25, 0.4, 0.4]);
    }
}
