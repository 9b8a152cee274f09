//! What a loss in f16 is multiplied by, so that small gradients do not vanish: PyTorch's `GradScaler`.

use serde::{Deserialize, Serialize};

/// A power of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    /// Steps since the factor changed.
    #[serde(rename = "good")]
    finite_steps: usize,
}

const INITIAL_FACTOR: f64 = 65536.0;
/// Finite steps after which a larger factor is tried.
const GROWTH_INTERVAL: usize = 2000;

impl Default for LossScale {
    fn default() -> Self {
        LossScale { factor: INITIAL_FACTOR, finite_steps: 0 }
    }
}

impl LossScale {
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// A step whose gradients were finite, or were not, and which was skipped.
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
    fn an_overflow_halves_and_many_good_steps_double() {
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
        assert_eq!(scale.factor(), 32768.0, "an overflow begins the count anew");
    }
}
