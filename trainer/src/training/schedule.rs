//! The learning rate of every step: PyTorch's `LinearLR` followed by `CosineAnnealingLR`, `StepLR` or a constant,
//! joined as by `SequentialLR`, and updated after each step instead of each epoch.

use crate::recipe::{Recipe, ScheduleKind};
use std::f64::consts::PI;

/// A learning rate as a function of the step.
pub struct LearningRate {
    /// Learning rate after the warm-up.
    base: f64,
    /// Fraction of `base` at which the warm-up starts.
    warmup_factor: f64,
    /// Number of steps of the warm-up.
    warmup: usize,
    decay: Decay,
}

enum Decay {
    Constant,
    Cosine { steps: usize },
    Step { every: usize, factor: f64 },
}

impl LearningRate {
    /// Creates the schedule of a recipe.
    pub fn new(recipe: &Recipe, steps_per_epoch: usize) -> Self {
        let warmup = (recipe.warmup_epochs * steps_per_epoch as f64).round() as usize;
        let decay = match (recipe.schedule, recipe.step_epochs, recipe.step_factor) {
            (ScheduleKind::Step, Some(epochs), Some(factor)) => Decay::Step { every: epochs * steps_per_epoch, factor },
            (ScheduleKind::Cosine, ..) => Decay::Cosine { steps: recipe.epochs * steps_per_epoch - warmup },
            _ => Decay::Constant,
        };
        LearningRate { base: recipe.learning_rate, warmup_factor: recipe.warmup_factor.unwrap_or(1.0), warmup, decay }
    }

    /// Returns the number of steps of the warm-up.
    pub fn warmup(&self) -> usize {
        self.warmup
    }

    /// Returns the learning rate of a step, counted from 0 over all epochs.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            let progress = step as f64 / self.warmup as f64;
            return self.base * (self.warmup_factor + (1.0 - self.warmup_factor) * progress);
        }
        let step = step - self.warmup;
        match self.decay {
            Decay::Constant => self.base,
            Decay::Cosine { steps } => self.base * (1.0 + (PI * step as f64 / steps as f64).cos()) / 2.0,
            Decay::Step { every, factor } => self.base * factor.powi((step / every) as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learning rates of some steps, with five steps per epoch.
    fn rates(changes: &[&str], steps: &[usize]) -> Vec<f64> {
        let defaults = ["learning-rate=0.4", "epochs=4", "warmup-epochs=0.8", "warmup-factor=0.25"];
        let rate = LearningRate::new(&Recipe::finetune_with(&[&defaults, changes].concat()), 5);
        steps.iter().map(|&step| rate.at(step)).collect()
    }

    fn assert_near(actual: &[f64], expected: &[f64]) {
        let near = actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{actual:?}, not {expected:?}");
    }

    /// `SequentialLR([LinearLR(start_factor=0.25, total_iters=4), CosineAnnealingLR(T_max=16)], milestones=[4])`
    #[test]
    fn cosine_after_a_warm_up() {
        let expected = [0.1, 0.175, 0.25, 0.325, 0.4, 0.396_157_056_080_646_1, 0.2, 0.003_842_943_919_353_914];
        assert_near(&rates(&[], &[0, 1, 2, 3, 4, 5, 12, 19]), &expected);
    }

    /// `StepLR(step_size=10, gamma=0.1)` after the same warm-up.
    #[test]
    fn steps_after_a_warm_up() {
        let changes = ["schedule=step", "step-epochs=2", "step-factor=0.1"];
        assert_near(&rates(&changes, &[0, 4, 13, 14, 19]), &[0.1, 0.4, 0.4, 0.04, 0.04]);
    }

    #[test]
    fn constant_after_a_warm_up() {
        assert_near(&rates(&["schedule=constant"], &[2, 4, 19]), &[0.25, 0.4, 0.4]);
    }
}
