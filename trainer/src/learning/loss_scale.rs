//! Dynamic loss scaling for f16, as in `torch.amp.GradScaler`: the loss is multiplied by a factor so that small
//! gradients do not underflow.

use serde::{Deserialize, Serialize};

/// Loss scale, a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    /// Number of consecutive steps with finite gradients since the factor changed.
    #[serde(rename = "good")]
    finite_steps: usize,
}

/// `init_scale` of `GradScaler`.
const INITIAL_FACTOR: f64 = 65536.0;
/// Number of consecutive finite steps after which the factor is doubled, `growth_interval` of `GradScaler`.
const GROWTH_INTERVAL: usize = 2000;

impl Default for LossScale {
    fn default() -> Self {
        LossScale { factor: INITIAL_FACTOR, finite_steps: 0 }
    }
}

impl LossScale {
    /// Returns the factor by which the loss is multiplied.
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// Updates the factor after a step. If the gradients were not finite, the factor is halved; the caller skips the
    /// step.
    pub fn update(&mut self, finite: bool) {
        self.finite_steps = if finite { self.finite_steps + 1 } else { 0 };
        if !finite {
            self.factor /= 2.0;
        } else if self.finite_steps == GROWTH_INTERVAL {
            *self = LossScale { factor: self.factor * 2.0, finite_steps: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_halves_and_growth_interval_doubles() {
        let mut scale = LossScale::default();
        scale.update(false);
        assert_eq!(scale.factor(), 32768.0);
        (0..GROWTH_INTERVAL - 1).for_each(|_| scale.update(true));
        assert_eq!(scale.factor(), 32768.0);
        scale.update(true);
        assert_eq!(scale.factor(), 65536.0);
        (0..GROWTH_INTERVAL - 1).for_each(|_| scale.update(true));
        scale.update(false);
        (0..GROWTH_INTERVAL - 1).for_each(|_| scale.update(true));
        assert_eq!(scale.factor(), 32768.0, "an overflow resets the count");
    }
}
