//! Confidence intervals of means over photos by the bootstrap (Efron, 1979): photos are drawn with replacement, and the
//! limits of an interval are quantiles of the means of such resamples.
//!
//! Statistics of several checkpoints are resampled together, so that the interval of a difference is that of paired
//! observations, which is much narrower than those of the two means suggest.

use crate::data::{CounterRng, Purpose};
use rayon::prelude::*;
use serde::Serialize;

/// Confidence level of all intervals.
pub const CONFIDENCE_LEVEL: f64 = 0.95;
/// Number of resamples.
pub const RESAMPLES: usize = 10_000;
/// Seed of the resamples. Equal predictions have equal intervals.
const SEED: u64 = 0;
/// Number of partial sums of a dot product, which the compiler vectorises.
const LANES: usize = 8;

/// A mean over photos, or a difference of two means, with the limits of its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Means of several statistics over the same photos, and over each resample of these photos.
pub struct ResampledMeans {
    /// Means over the photos, by statistic.
    means: Vec<f64>,
    /// Means over each resample, by statistic.
    resamples: Vec<Vec<f64>>,
}

impl Estimate {
    /// Returns whether zero is outside of the interval.
    pub fn excludes_zero(self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

impl ResampledMeans {
    /// Draws [`RESAMPLES`] resamples. `statistics` are `[statistic][photo]`.
    ///
    /// # Panics
    /// Panics if there are no statistics or no photos.
    pub fn new(statistics: &[Vec<f64>]) -> Self {
        let photos = statistics[0].len();
        let means = |counts: &[f64]| -> Vec<f64> {
            statistics.iter().map(|values| dot_product(counts, values) / photos as f64).collect()
        };
        let resample = |counts: &mut Vec<f64>, index: usize| {
            draw_counts(counts, CounterRng::new(SEED, Purpose::Bootstrap, &[index as u64]));
            means(counts)
        };
        let resamples = (0..RESAMPLES).into_par_iter().map_init(|| vec![0.0; photos], resample).collect();
        ResampledMeans { means: means(&vec![1.0; photos]), resamples }
    }

    /// Returns the mean of a statistic.
    pub fn mean(&self, statistic: usize) -> Estimate {
        self.estimate(|means| means[statistic])
    }

    /// Returns the mean of a statistic minus that of `baseline`.
    pub fn difference(&self, statistic: usize, baseline: usize) -> Estimate {
        self.estimate(|means| means[statistic] - means[baseline])
    }

    fn estimate(&self, of: impl Fn(&[f64]) -> f64) -> Estimate {
        let mut values: Vec<f64> = self.resamples.iter().map(|means| of(means)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE_LEVEL) / 2.0;
        Estimate { value: of(&self.means), low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) }
    }
}

/// Draws as many photos as there are, with replacement, and writes how often each was drawn.
fn draw_counts(counts: &mut [f64], mut rng: CounterRng) {
    counts.fill(0.0);
    for _ in 0..counts.len() {
        counts[rng.below(counts.len() as u64) as usize] += 1.0;
    }
}

fn dot_product(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Returns the quantile of ascending values, interpolated linearly between the two nearest ones as by NumPy's `quantile`.
///
/// # Panics
/// Panics if there are no values.
pub fn quantile(values: &[f64], fraction: f64) -> f64 {
    let position = fraction * (values.len() - 1) as f64;
    let lower = position as usize;
    let upper = (lower + 1).min(values.len() - 1);
    values[lower] + (position - lower as f64) * (values[upper] - values[lower])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTOS: usize = 400;

    /// Hits of a network, and those of another one that differ for 14 photos, and losses.
    fn statistics() -> Vec<Vec<f64>> {
        let column = |value: &dyn Fn(usize) -> f64| (0..PHOTOS).map(value).collect::<Vec<f64>>();
        let first = |index: usize| if index % 10 == 3 { 0.0 } else { 1.0 };
        let second = |index: usize| match index {
            _ if index.is_multiple_of(40) => 0.0,
            _ if index % 100 == 3 => 1.0,
            _ => first(index),
        };
        vec![column(&first), column(&second), column(&|index| ((index * 37) % 101) as f64 / 50.0)]
    }

    fn assert_near(estimate: Estimate, expected: [f64; 3], tolerance: f64) {
        let Estimate { value, low, high } = estimate;
        assert!((value - expected[0]).abs() < 1e-12, "{estimate:?}, {expected:?}");
        let error = (low - expected[1]).abs().max((high - expected[2]).abs());
        assert!(error <= tolerance, "{estimate:?}, {expected:?}");
    }

    /// The limits are those of `scipy.stats.bootstrap(..., method="percentile", n_resamples=200_000)` of SciPy 1.17.1,
    /// with `paired=True` for the difference. The standard deviation of a limit of 10,000 resamples is 0.027 of that of
    /// the mean; the tolerance is four times as much, and one photo for hits, whose means are multiples of 1 / 400.
    #[test]
    fn intervals_equal_those_of_scipy() {
        let means = ResampledMeans::new(&statistics());
        let photo = 1.0 / PHOTOS as f64 + 1e-9;
        assert_near(means.mean(0), [0.9, 0.87, 0.9275], photo);
        assert_near(means.mean(1), [0.885, 0.8525, 0.915], photo);
        assert_near(means.difference(1, 0), [-0.015, -0.035, 0.0025], photo);
        assert_near(means.mean(2), [0.9982, 0.9413, 1.05545], 4.0 * 0.027 * 0.0292);
    }

    /// For many photos, the mean is distributed normally: the limits are 1.96 standard errors from it.
    #[test]
    fn intervals_of_many_photos_are_those_of_the_normal_distribution() {
        let mut rng = CounterRng::new(7, Purpose::Order, &[]);
        let values: Vec<f64> = (0..20_000).map(|_| rng.uniform(-1.0, 3.0)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let error = (variance / values.len() as f64).sqrt();
        let estimate = ResampledMeans::new(&[values]).mean(0);
        assert_near(estimate, [estimate.value, mean - 1.96 * error, mean + 1.96 * error], 4.0 * 0.027 * error);
        assert!((estimate.value - mean).abs() < 1e-12);
    }

    #[test]
    fn differences_are_significant_only_if_their_interval_excludes_zero() {
        let [first, second, losses] = statistics().try_into().unwrap();
        let better: Vec<f64> = losses.iter().map(|loss| loss - 0.01).collect();
        let means = ResampledMeans::new(&[first.clone(), second, first, losses, better]);
        assert!(!means.difference(1, 0).excludes_zero());
        assert_eq!(means.difference(2, 0), Estimate { value: 0.0, low: 0.0, high: 0.0 });
        assert!(!means.difference(2, 0).excludes_zero());
        // Every photo's loss is lower by the same amount, so that the interval of the difference has no width.
        let difference = means.difference(4, 3);
        assert_near(difference, [difference.value, -0.01, -0.01], 1e-12);
        assert!(difference.excludes_zero() && means.difference(3, 4).excludes_zero());
    }

    #[test]
    fn intervals_do_not_depend_on_the_number_of_threads() {
        let estimates = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ResampledMeans::new(&statistics()).mean(2))
        };
        assert_eq!(estimates(1), estimates(3));
    }

    /// Expected values: `numpy.quantile([1, 2, 4, 8, 16], [0, 0.025, 0.3, 0.5, 0.975, 1])`.
    #[test]
    fn quantiles_are_interpolated_like_those_of_numpy() {
        for (fraction, expected) in [(0.0, 1.0), (0.025, 1.1), (0.3, 2.4), (0.5, 4.0), (0.975, 15.2), (1.0, 16.0)] {
            assert!((quantile(&[1.0, 2.0, 4.0, 8.0, 16.0], fraction) - expected).abs() < 1e-12, "{fraction}");
        }
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
    }
}
