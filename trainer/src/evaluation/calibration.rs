//! Comparison of the confidence of predictions, the probability of the most likely class, with their accuracy.

use super::predictions::PhotoPrediction;
use serde::Serialize;

/// Number of bins of confidence of equal width.
const BINS: usize = 15;
/// Maximum number of points of the curve of accuracy against coverage.
const COVERAGE_POINTS: usize = 200;

/// Accuracy of predictions by their confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Bins of the reliability diagram.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error: the mean difference between confidence and accuracy of the bins, weighted by their
    /// numbers of photos (Guo et al., 2017, <https://arxiv.org/abs/1706.04599>).
    pub expected_error: f64,
    /// Accuracy of the most confident predictions, in order of increasing coverage.
    pub coverage: Vec<CoveragePoint>,
}

/// Predictions with a confidence in `(lower, lower + 1 / bins]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    pub lower: f64,
    pub photos: usize,
    /// Mean confidence; 0 without photos.
    pub confidence: f64,
    /// Fraction of correct predictions; 0 without photos.
    pub accuracy: f64,
}

/// The predictions that remain if those with less than `threshold` confidence are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CoveragePoint {
    pub threshold: f64,
    /// Fraction of all photos.
    pub coverage: f64,
    /// Fraction of correct predictions among these photos.
    pub accuracy: f64,
}

impl Calibration {
    pub fn new(predictions: &[PhotoPrediction]) -> Self {
        let mut by_confidence: Vec<_> = predictions
            .iter()
            .map(|prediction| (f64::from(prediction.confidence()), prediction.is_correct()))
            .collect();
        by_confidence.sort_by(|a, b| b.0.total_cmp(&a.0));
        let count = by_confidence.len() as f64;

        let mut bins: Vec<_> = (0..BINS)
            .map(|bin| ReliabilityBin { lower: bin as f64 / BINS as f64, photos: 0, confidence: 0.0, accuracy: 0.0 })
            .collect();
        for &(confidence, is_correct) in &by_confidence {
            let bin = &mut bins[((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
            bin.photos += 1;
            bin.confidence += confidence;
            bin.accuracy += f64::from(u8::from(is_correct));
        }
        for bin in bins.iter_mut().filter(|bin| bin.photos > 0) {
            bin.confidence /= bin.photos as f64;
            bin.accuracy /= bin.photos as f64;
        }
        let errors = bins.iter().map(|bin| bin.photos as f64 * (bin.confidence - bin.accuracy).abs());
        let expected_error = if count > 0.0 { errors.sum::<f64>() / count } else { 0.0 };

        let (mut coverage, mut correct) = (Vec::new(), 0);
        let step = by_confidence.len().div_ceil(COVERAGE_POINTS).max(1);
        for (index, &(confidence, is_correct)) in by_confidence.iter().enumerate() {
            correct += usize::from(is_correct);
            let photos = index + 1;
            // Photos of equal confidence are rejected together.
            let is_last_of_equals = by_confidence.get(photos).is_none_or(|next| next.0 < confidence);
            let is_new_point = photos.is_multiple_of(step) || photos == by_confidence.len();
            if is_last_of_equals && is_new_point {
                let accuracy = correct as f64 / photos as f64;
                coverage.push(CoveragePoint { threshold: confidence, coverage: photos as f64 / count, accuracy });
            }
        }
        Calibration { bins, expected_error, coverage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(confidence: f32, is_correct: bool) -> PhotoPrediction {
        let top = vec![(0, confidence), (1, 1.0 - confidence)];
        let class = usize::from(!is_correct);
        PhotoPrediction { sample: 0, class, top, class_probability: 0.0, rank: 0, loss: 0.0 }
    }

    /// The expected error is computed by hand: bins (0.8, 0.867] and (0.933, 1] contain two photos each.
    #[test]
    fn expected_error_is_the_weighted_difference_of_the_bins() {
        let predictions = [(0.81, true), (0.85, false), (0.95, true), (1.0, true)];
        let calibration =
            Calibration::new(&predictions.map(|(confidence, is_correct)| prediction(confidence, is_correct)));
        let expected = (2.0 * (0.83_f64 - 0.5).abs() + 2.0 * (0.975_f64 - 1.0).abs()) / 4.0;
        assert!((calibration.expected_error - expected).abs() < 1e-6, "{}", calibration.expected_error);
        let photos: Vec<_> = calibration.bins.iter().map(|bin| bin.photos).filter(|&photos| photos > 0).collect();
        assert_eq!(photos, [2, 2]);
    }

    #[test]
    fn coverage_rejects_the_least_confident_first() {
        let predictions = [(0.5, false), (0.9, true), (0.9, false), (0.99, true)];
        let calibration =
            Calibration::new(&predictions.map(|(confidence, is_correct)| prediction(confidence, is_correct)));
        let points: Vec<_> = calibration.coverage.iter().map(|point| (point.coverage, point.accuracy)).collect();
        assert_eq!(points, [(0.25, 1.0), (0.75, 2.0 / 3.0), (1.0, 0.5)]);
    }
}
