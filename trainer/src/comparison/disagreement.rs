//! Photos that checkpoints classify differently.

use super::candidate::ClassName;
use crate::data::{Sample, SampleLocation};
use crate::evaluation::PhotoPrediction;
use serde::Serialize;

/// A photo that not all checkpoints classify as the same class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    pub file: SampleLocation,
    /// The correct class.
    #[serde(flatten)]
    pub name: ClassName,
    /// Most likely class of each checkpoint.
    pub predictions: Vec<PredictedClass>,
}

/// The most likely class of a photo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PredictedClass {
    #[serde(flatten)]
    pub name: ClassName,
    pub probability: f32,
    pub correct: bool,
    /// Probability of the correct class.
    pub correct_class_probability: f32,
}

/// Finds the photos with different predictions, those with the largest difference in the probability of the correct
/// class first. `by_candidate` is `[candidate][photo]`.
pub(super) fn find(
    by_candidate: &[Vec<PhotoPrediction>],
    samples: &[Sample],
    names: &[ClassName],
) -> Vec<Disagreement> {
    let mut disagreements = Vec::new();
    for (photo, first) in by_candidate[0].iter().enumerate() {
        let predictions = || by_candidate.iter().map(|predictions| &predictions[photo]);
        if predictions().all(|prediction| prediction.predicted() == first.predicted()) {
            continue;
        }
        let predicted = |prediction: &PhotoPrediction| PredictedClass {
            name: names[prediction.predicted()].clone(),
            probability: prediction.confidence(),
            correct: prediction.is_correct(),
            correct_class_probability: prediction.class_probability,
        };
        disagreements.push(Disagreement {
            file: samples[first.sample].location.clone(),
            name: names[first.class].clone(),
            predictions: predictions().map(predicted).collect(),
        });
    }
    disagreements.sort_by(|a, b| b.probability_range().total_cmp(&a.probability_range()));
    disagreements
}

impl Disagreement {
    /// Returns the largest difference of two checkpoints in the probability of the correct class.
    fn probability_range(&self) -> f32 {
        let probabilities = || self.predictions.iter().map(|prediction| prediction.correct_class_probability);
        probabilities().fold(0.0, f32::max) - probabilities().fold(1.0, f32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_disagreements_are_first() {
        let samples: Vec<_> = (0..4)
            .map(|index| Sample { location: SampleLocation::File(format!("{index}.jpg").into()), class: 0 })
            .collect();
        let names = ["ant", "bee"].map(|name| ClassName { class: name.to_owned(), label: name.to_uppercase() });
        let predictions = |probabilities: [f32; 4]| -> Vec<_> {
            let prediction = |(sample, probability): (usize, f32)| {
                let mut top = vec![(0, probability), (1, 1.0 - probability)];
                top.sort_by(|a, b| b.1.total_cmp(&a.1));
                let rank = usize::from(probability < 0.5);
                PhotoPrediction { sample, class: 0, top, class_probability: probability, rank, loss: 0.0 }
            };
            probabilities.into_iter().enumerate().map(prediction).collect()
        };
        let by_candidate = [predictions([0.9, 0.6, 0.1, 0.7]), predictions([0.8, 0.4, 0.2, 0.1])];
        let found = find(&by_candidate, &samples, &names);
        let files: Vec<_> = found.iter().map(|disagreement| disagreement.file.to_string()).collect();
        assert_eq!(files, ["3.jpg", "1.jpg"]);
        assert_eq!(found[0].name.label, "ANT");
        let predicted: Vec<_> =
            found[0].predictions.iter().map(|class| (class.name.class.as_str(), class.correct)).collect();
        assert_eq!(predicted, [("ant", true), ("bee", false)]);
    }
}
