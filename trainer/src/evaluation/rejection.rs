//! Rejection of predictions whose most likely class is not likely enough.

use super::predictions::PhotoPrediction;

/// Returns the largest threshold that keeps at least 95 % of the correct predictions, or `None` if no prediction is
/// correct. A prediction is kept if the probability of its most likely class is at least the threshold.
pub fn rejection_threshold(predictions: &[PhotoPrediction]) -> Option<f32> {
    let correct = predictions.iter().filter(|prediction| prediction.is_correct());
    let mut confidences: Vec<f32> = correct.map(PhotoPrediction::confidence).collect();
    confidences.sort_unstable_by(f32::total_cmp);
    let rejected = confidences.len() / 20;
    confidences.get(rejected).copied()
}

/// The effect of a rejection threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejection {
    /// Fraction of the photos whose prediction is rejected.
    pub rejected: f64,
    /// Fraction of the other predictions that are correct.
    pub precision: f64,
}

impl Rejection {
    /// Applies a threshold of [`rejection_threshold`], which keeps at least one prediction.
    pub fn new(predictions: &[PhotoPrediction], threshold: f32) -> Self {
        let kept: Vec<_> = predictions.iter().filter(|prediction| prediction.confidence() >= threshold).collect();
        let correct = kept.iter().filter(|prediction| prediction.is_correct()).count();
        Rejection {
            rejected: (predictions.len() - kept.len()) as f64 / predictions.len() as f64,
            precision: correct as f64 / kept.len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prediction(confidence: f32, is_correct: bool) -> PhotoPrediction {
        let (top, class) = (vec![(0, confidence)], usize::from(!is_correct));
        PhotoPrediction { sample: 0, class, top, class_probability: 0.0, rank: 0, loss: 0.0 }
    }

    #[test]
    fn threshold_keeps_95_percent_of_the_correct_predictions() {
        // 40 correct predictions from 0.51 to 0.9, in descending order, and errors that must not count.
        let mut predictions: Vec<_> = (0..40).map(|index| prediction(0.9 - 0.01 * index as f32, true)).collect();
        predictions.extend([0.1, 0.52, 0.7, 0.99].map(|confidence| prediction(confidence, false)));
        let threshold = rejection_threshold(&predictions).unwrap();
        assert_eq!(threshold, 0.9 - 0.01 * 37.0, "two of 40 may be rejected, and the third least likely must be kept");
        let Rejection { rejected, precision } = Rejection::new(&predictions, threshold);
        assert!((rejected - 4.0 / 44.0).abs() < 1e-12, "{rejected}");
        assert_eq!(precision, 38.0 / 40.0);

        assert_eq!(rejection_threshold(&predictions[..19]), Some(0.9 - 0.01 * 18.0), "fewer than 20 are all kept");
    }

    #[test]
    fn without_correct_predictions_there_is_no_threshold() {
        assert_eq!(rejection_threshold(&[prediction(0.9, false)]), None);
    }
}
