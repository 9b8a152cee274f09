//! `torchvision.transforms.ColorJitter`.

use super::operation::{AugmentationOp, OperationConstructor};
use crate::data::CounterRng;

/// Strengths of the changes of brightness, contrast, saturation and hue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorJitter(pub [f64; 4]);

impl ColorJitter {
    /// Draws operations and their random order; those with strength 0 are omitted.
    pub fn draw(self, rng: &mut CounterRng) -> Vec<AugmentationOp> {
        let ColorJitter([brightness, contrast, saturation, hue]) = self;
        let mut operations = Vec::new();
        let factors: [(f64, OperationConstructor); 3] = [
            (brightness, AugmentationOp::Brightness),
            (contrast, AugmentationOp::Contrast),
            (saturation, AugmentationOp::Color),
        ];
        for (strength, operation) in factors {
            if strength > 0.0 {
                operations.push(operation(rng.uniform((1.0 - strength).max(0.0), 1.0 + strength)));
            }
        }
        if hue > 0.0 {
            operations.push(AugmentationOp::Hue(rng.uniform(-hue, hue)));
        }
        rng.shuffle(&mut operations);
        operations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;
    use std::collections::HashSet;

    #[test]
    fn factors_cover_their_ranges_in_all_orders() {
        let (mut orders, mut ranges) = (HashSet::new(), [(f64::MAX, f64::MIN); 4]);
        for index in 0..2000 {
            let drawn =
                ColorJitter([0.4, 1.5, 0.2, 0.1]).draw(&mut CounterRng::new(1, Purpose::Sample, &[0, index, 0]));
            let mut order = Vec::new();
            for operation in drawn {
                let (index, factor) = match operation {
                    AugmentationOp::Brightness(factor) => (0, factor),
                    AugmentationOp::Contrast(factor) => (1, factor),
                    AugmentationOp::Color(factor) => (2, factor),
                    AugmentationOp::Hue(fraction) => (3, fraction),
                    other => panic!("{other:?}"),
                };
                order.push(index);
                ranges[index] = (ranges[index].0.min(factor), ranges[index].1.max(factor));
            }
            orders.insert(order);
        }
        assert_eq!(orders.len(), 24);
        for ((min, max), (low, high)) in ranges.into_iter().zip([(0.6, 1.4), (0.0, 2.5), (0.8, 1.2), (-0.1, 0.1)]) {
            assert!(min >= low && min < low + 0.01 && max <= high && max > high - 0.01, "{min}..{max}");
        }
    }

    #[test]
    fn operations_with_strength_zero_are_omitted() {
        let drawn = ColorJitter([0.0, 0.0, 0.2, 0.0]).draw(&mut CounterRng::new(1, Purpose::Sample, &[]));
        assert!(matches!(drawn[..], [AugmentationOp::Color(_)]), "{drawn:?}");
    }
}
