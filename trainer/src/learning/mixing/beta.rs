//! Sampling from a beta distribution.

use crate::data::CounterRng;
use std::f64::consts::TAU;

/// Draws a number in 0..=1 from `Beta(alpha, alpha)`, where `alpha` is positive: the ratio of one of two
/// gamma-distributed numbers to their sum. It is computed with logarithms, because both numbers may underflow for a
/// small `alpha`.
pub fn beta(alpha: f64, rng: &mut CounterRng) -> f64 {
    let (first, second) = (ln_gamma(alpha, rng), ln_gamma(alpha, rng));
    1.0 / (1.0 + (second - first).exp())
}

/// Draws the logarithm of a number from `Gamma(alpha, 1)`, after Marsaglia and Tsang, "A simple method for generating
/// gamma variables", 2000, <https://doi.org/10.1145/358407.358414>, with their transformation for `alpha` below 1.
fn ln_gamma(alpha: f64, rng: &mut CounterRng) -> f64 {
    if alpha < 1.0 {
        return ln_gamma(alpha + 1.0, rng) + ln_unit(rng) / alpha;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && ln_unit(rng) < 0.5 * x * x + d - d * v + d * v.ln() {
            return (d * v).ln();
        }
    }
}

/// Draws from the standard normal distribution (Box and Muller, 1958).
fn normal(rng: &mut CounterRng) -> f64 {
    (-2.0 * ln_unit(rng)).sqrt() * (TAU * rng.next_f64()).cos()
}

/// Draws the logarithm of a uniform number in (0, 1].
fn ln_unit(rng: &mut CounterRng) -> f64 {
    (1.0 - rng.next_f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Purpose;

    /// The variance of `Beta(a, a)` is `1 / (4 (2 a + 1))`, its fourth central moment `3 / (16 (2 a + 1) (2 a + 3))`.
    #[test]
    fn moments_match_the_distribution() {
        for alpha in [0.001, 0.2, 0.5, 1.0, 3.0, 100.0] {
            let mut rng = CounterRng::new(3, Purpose::Mixing, &[]);
            let numbers: Vec<f64> = (0..100_000).map(|_| beta(alpha, &mut rng)).collect();
            assert!(numbers.iter().all(|number| (0.0..=1.0).contains(number)));
            let mean = |of: &dyn Fn(f64) -> f64| numbers.iter().map(|&number| of(number)).sum::<f64>() / 100_000.0;
            let variance = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let fourth = 3.0 / (16.0 * (2.0 * alpha + 1.0) * (2.0 * alpha + 3.0));
            let actual = [1, 2, 4].map(|power| mean(&|number| (number - 0.5).powi(power)));
            assert!(actual[0].abs() < 0.005, "{alpha}: mean 0.5 + {}", actual[0]);
            for (actual, expected) in [(actual[1], variance), (actual[2], fourth)] {
                assert!((actual / expected - 1.0).abs() < 0.03, "{alpha}: {actual}, not {expected}");
            }
        }
    }
}
