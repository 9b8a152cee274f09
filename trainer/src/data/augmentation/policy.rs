//! Automatic augmentation policies: `torchvision.transforms.TrivialAugmentWide` and `RandAugment`.

use super::operation::AugmentationOp::{self, *};
use super::operation::OperationConstructor;
use crate::data::CounterRng;
use crate::recipe::AutoAugment;

/// Number of magnitudes of an operation, not counting signs.
const MAGNITUDE_BINS: u64 = 31;
/// Number of operations that `RandAugment` applies in sequence.
const RANDAUGMENT_OPERATIONS: usize = 2;
/// Index of the magnitude that `RandAugment` uses for all operations.
const RANDAUGMENT_BIN: u64 = 9;

/// Entry of the augmentation space: an operation and its range of magnitudes.
pub struct SpaceEntry {
    operation: OperationConstructor,
    magnitudes: Magnitudes,
}

/// Magnitudes of an operation, as a function of the bin.
#[derive(Clone, Copy)]
enum Magnitudes {
    /// The operation has no magnitude.
    None,
    /// From 0 to this value, with a random sign.
    Signed(f64),
    /// Number of bits kept, from 8 down to 8 minus this value.
    Bits(u32),
    /// From 255 to 0.
    Threshold,
}

/// Draws the operations for an image of `side` by `side` pixels.
pub fn draw(policy: AutoAugment, side: u32, rng: &mut CounterRng) -> Vec<AugmentationOp> {
    let space = operation_space(policy, side);
    let count = match policy {
        AutoAugment::TrivialaugmentWide => 1,
        AutoAugment::Randaugment => RANDAUGMENT_OPERATIONS,
    };
    let operation = |_| {
        let entry = &space[rng.below(space.len() as u64) as usize];
        let bin = match policy {
            AutoAugment::TrivialaugmentWide => rng.below(MAGNITUDE_BINS),
            AutoAugment::Randaugment => RANDAUGMENT_BIN,
        };
        let magnitude = entry.magnitudes.value(bin);
        let negative = matches!(entry.magnitudes, Magnitudes::Signed(_)) && rng.below(2) == 1;
        entry.with(if negative { -magnitude } else { magnitude })
    };
    (0..count).map(operation).collect()
}

impl SpaceEntry {
    /// Returns the operation with a magnitude.
    pub fn with(&self, magnitude: f64) -> AugmentationOp {
        (self.operation)(magnitude)
    }
}

/// Returns the augmentation space in the order of torchvision's `_augmentation_space`.
fn operation_space(policy: AutoAugment, side: u32) -> [SpaceEntry; 14] {
    use Magnitudes::{Bits, None, Signed, Threshold};
    let (shear, shift, angle, strength, bits) = match policy {
        AutoAugment::TrivialaugmentWide => (0.99, 32.0, 135.0, 0.99, 6),
        AutoAugment::Randaugment => (0.3, 150.0 / 331.0 * f64::from(side), 30.0, 0.9, 4),
    };
    let entries: [(OperationConstructor, Magnitudes); 14] = [
        (|_| Identity, None),
        (ShearX, Signed(shear)),
        (ShearY, Signed(shear)),
        (|pixels| TranslateX(pixels as i32), Signed(shift)),
        (|pixels| TranslateY(pixels as i32), Signed(shift)),
        (Rotate, Signed(angle)),
        (|magnitude| Brightness(1.0 + magnitude), Signed(strength)),
        (|magnitude| Color(1.0 + magnitude), Signed(strength)),
        (|magnitude| Contrast(1.0 + magnitude), Signed(strength)),
        (|magnitude| Sharpness(1.0 + magnitude), Signed(strength)),
        (|bits| Posterize(bits as u32), Bits(bits)),
        (Solarize, Threshold),
        (|_| AutoContrast, None),
        (|_| Equalize, None),
    ];
    entries.map(|(operation, magnitudes)| SpaceEntry { operation, magnitudes })
}

impl Magnitudes {
    fn value(self, bin: u64) -> f64 {
        match self {
            Magnitudes::None => 0.0,
            Magnitudes::Signed(max) => linspace(0.0, max as f32, bin),
            Magnitudes::Bits(fewer) => {
                8.0 - (bin as f64 / ((MAGNITUDE_BINS - 1) as f64 / f64::from(fewer))).round_ties_even()
            }
            Magnitudes::Threshold => linspace(255.0, 0.0, bin),
        }
    }
}

/// `torch.linspace` in f32, which computes from the nearer end with a fused multiply-add.
fn linspace(first: f32, last: f32, bin: u64) -> f64 {
    let step = (last - first) / (MAGNITUDE_BINS - 1) as f32;
    let value = if bin < MAGNITUDE_BINS / 2 {
        step.mul_add(bin as f32, first)
    } else {
        (-step).mul_add((MAGNITUDE_BINS - 1 - bin) as f32, last)
    };
    value.into()
}

/// Returns the entry with the name that torchvision uses.
#[cfg(test)]
pub fn named(policy: AutoAugment, name: &str) -> SpaceEntry {
    operation_space(policy, 224).into_iter().find(|entry| entry.name() == name).expect(name)
}

#[cfg(test)]
impl SpaceEntry {
    fn name(&self) -> String {
        name(&self.with(0.0))
    }
}

/// Returns the name of an operation, without its parameter.
#[cfg(test)]
fn name(operation: &AugmentationOp) -> String {
    let debug = format!("{operation:?}");
    debug.split('(').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;
    use AutoAugment::{Randaugment, TrivialaugmentWide};
    use std::collections::{BTreeMap, HashMap};

    #[test]
    fn magnitudes_match_torchvision() {
        type Space = HashMap<String, (Vec<f64>, bool)>;
        let spaces = include_str!("../../../tests/golden/augmentation/magnitudes.json");
        let spaces: HashMap<String, Space> = serde_json::from_str(spaces).unwrap();
        for (policy, name) in [(TrivialaugmentWide, "trivialaugment-wide"), (Randaugment, "randaugment")] {
            let expected = &spaces[name];
            assert_eq!(expected.len(), 14);
            for entry in operation_space(policy, 224) {
                let (magnitudes, signed) = &expected[&entry.name()];
                let bins =
                    if policy == Randaugment { vec![RANDAUGMENT_BIN] } else { (0..magnitudes.len() as u64).collect() };
                let actual: Vec<_> = bins.into_iter().map(|bin| entry.magnitudes.value(bin)).collect();
                assert_eq!(actual, *magnitudes, "{name}: {}", entry.name());
                assert_eq!(matches!(entry.magnitudes, Magnitudes::Signed(_)), *signed, "{name}: {}", entry.name());
            }
        }
    }

    #[test]
    fn operations_and_signs_are_uniform() {
        for (policy, count) in [(TrivialaugmentWide, 1), (Randaugment, 2)] {
            let (mut counts, mut angles) = (BTreeMap::new(), Vec::new());
            for index in 0..14_000 / count {
                let drawn = draw(policy, 224, &mut CounterRng::new(3, Purpose::Sample, &[1, index as u64, 0]));
                assert_eq!(drawn.len(), count);
                for operation in drawn {
                    *counts.entry(name(&operation)).or_insert(0) += 1;
                    if let Rotate(degrees) = operation {
                        angles.push(degrees);
                    }
                }
            }
            assert!(counts.len() == 14 && counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
            let max = if policy == Randaugment { 9.0 } else { 135.0 };
            let extremes =
                angles.iter().fold((0.0_f64, 0.0_f64), |(low, high), &angle| (low.min(angle), high.max(angle)));
            assert_eq!(extremes, (-max, max), "{policy:?}");
        }
    }
}
