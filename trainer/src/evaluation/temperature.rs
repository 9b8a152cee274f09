//! Temperature scaling (Guo et al., 2017, <https://arxiv.org/abs/1706.04599>): the temperature T for which the
//! probabilities softmax(logits / T) have the smallest mean cross-entropy.

use super::labelled_logits::LabelledLogits;
use model::checkpoint::Metadata;

/// Relative accuracy of 1 / T.
const TOLERANCE: f64 = 1e-9;
/// Maximum number of iterations; bisection alone needs fewer.
const MAX_ITERATIONS: usize = 100;

/// The result of fitting a temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedTemperature {
    pub temperature: f32,
    /// Whether the minimum is not within [`Metadata::TEMPERATURES`], and the temperature is the limit next to it.
    pub is_limit: bool,
}

/// Returns the temperature with the smallest mean cross-entropy among [`Metadata::TEMPERATURES`].
///
/// The cross-entropy is a convex function of `1 / T`, so its minimum is the only root of its derivative. It is found by
/// Newton's method, with bisection where a step would leave the interval that contains the root. If all photos are
/// classified correctly, the cross-entropy decreases towards `T = 0`, and the result is the smallest temperature.
pub fn fit_temperature(logits: &LabelledLogits) -> FittedTemperature {
    let limit = |temperature: f32| FittedTemperature { temperature, is_limit: true };
    let (smallest, largest) = (*Metadata::TEMPERATURES.start(), *Metadata::TEMPERATURES.end());
    let (mut low, mut high) = (1.0 / f64::from(largest), 1.0 / f64::from(smallest));
    if derivatives(logits, low).0 >= 0.0 {
        return limit(largest);
    }
    if derivatives(logits, high).0 <= 0.0 {
        return limit(smallest);
    }
    let mut inverse = 1.0;
    for _ in 0..MAX_ITERATIONS {
        let (first, second) = derivatives(logits, inverse);
        if first > 0.0 {
            high = inverse
        } else {
            low = inverse
        }
        let newton = inverse - first / second;
        let next = if newton > low && newton < high { newton } else { (low * high).sqrt() };
        let step = (next - inverse).abs();
        inverse = next;
        if step <= TOLERANCE * inverse {
            break;
        }
    }
    FittedTemperature { temperature: (1.0 / inverse) as f32, is_limit: false }
}

/// Returns the first and second derivative of the mean cross-entropy by `1 / T`: the mean of the expected logit minus
/// the logit of the correct class, and the mean variance of the logits. Both are expected values over the classes, with
/// the probabilities as weights.
fn derivatives(logits: &LabelledLogits, inverse_temperature: f64) -> (f64, f64) {
    let (mut first, mut second) = (0.0, 0.0);
    for (row, class) in logits.rows() {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let (mut sum, mut weighted, mut squared) = (0.0, 0.0, 0.0);
        for &logit in row {
            // Relative to the largest logit, so that the exponential does not overflow.
            let logit = f64::from(logit) - largest;
            let weight = (logit * inverse_temperature).exp();
            sum += weight;
            weighted += weight * logit;
            squared += weight * logit * logit;
        }
        let mean = weighted / sum;
        first += mean - (f64::from(row[class]) - largest);
        second += squared / sum - mean * mean;
    }
    (first / logits.len() as f64, second / logits.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::random::Uniform;

    /// Logits of 200 photos and ten classes: uniform in `-scale..scale`, plus `margin` for the correct class. `temperature.py`
    /// generates the same ones.
    fn golden_logits(scale: f32, margin: f32) -> LabelledLogits {
        let (photos, classes) = (200, 10);
        let (mut uniform, mut logits) = (Uniform::new(7), LabelledLogits::new(classes));
        for photo in 0..photos {
            let class = photo * 7 % classes;
            let mut row: Vec<f32> = uniform.by_ref().take(classes).map(|value| value * scale).collect();
            row[class] += margin;
            logits.push(photo, &row, class);
        }
        logits
    }

    /// Expected values: `scipy.optimize.minimize_scalar`, printed by `trainer/tests/golden/temperature.py`.
    #[test]
    fn temperature_equals_that_of_scipy() {
        for (scale, margin, expected) in
            [(6.0, 3.0, 3.589_192_0), (2.0, 2.0, 0.591_410_4), (30.0, 40.0, 5.581_779_1), (0.4, 0.3, 0.159_606_5)]
        {
            let FittedTemperature { temperature, is_limit } = fit_temperature(&golden_logits(scale, margin));
            assert!((f64::from(temperature) / expected - 1.0).abs() < 1e-6, "{scale}, {margin}: {temperature}");
            assert!(!is_limit);
        }
    }

    #[test]
    fn temperature_is_limited_if_all_photos_are_correct_or_the_logits_are_useless() {
        let [smallest, largest] = [*Metadata::TEMPERATURES.start(), *Metadata::TEMPERATURES.end()];
        let all_correct = fit_temperature(&golden_logits(1.0, 3.0));
        assert_eq!(all_correct, FittedTemperature { temperature: smallest, is_limit: true });
        let worse_than_chance = fit_temperature(&golden_logits(1.0, -3.0));
        assert_eq!(worse_than_chance, FittedTemperature { temperature: largest, is_limit: true });
    }
}
