//! What a loss in f16 is multiplied by, so that small gradients do not vanish: PyTorch's `GradScaler`.

use serde::{Deserialize, Serialize};

/// A power of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    factor: f64,
    /// Steps since the factor changed.
    good: usize,
}

const FIRST: f64 = 65536.0;
/// Finite steps after which a larger factor is tried.
const PATIENCE: usize = 2000;

impl Default for LossScale {
    fn default() -> Self {
        LossScale { factor: FIRST, good: 0 }
    }
}

impl LossScale {
    pub fn factor(self) -> f64 {
        self.factor
    }

    /// A step whose gradients were finite, or were not, and which was skipped.
    pub fn stepped(&mut self, finite: bool) {
        self.good = if finite { self.good + 1 } else { 0 };
        if !finite {
            self.factor /= 2.0;
        } else if self.good == PATIENCE {
            *self = LossScale { factor: self.factor * 2.0, good: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_halves_and_many_good_steps_double() {
        let mut scale = LossScale::default();
        scale.stepped(false);
        assert_eq!(scale.factor(), 32768.0);
        (0..PATIENCE - 1).for_each(|_| scale.stepped(true));
        assert_eq!(scale.factor(), 32768.0);
        scale.stepped(true);
        assert_eq!(scale.factor(), 65536.0);
        (0..PATIENCE - 1).for_each(|_| scale.stepped(true));
        scale.stepped(false);
        (0..PATIENCE - 1).for_each(|_| scale.stepped(true));
        assert_eq!(scale.factor(), 32768.0, "an overflow begins the count anew");
    }
}
