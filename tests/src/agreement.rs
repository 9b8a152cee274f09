//! Comparison of two predictions for the same photo.

use anyhow::{Result, ensure};
use model::prediction::{ClassScore, Prediction};

/// Probabilities that differ by less count as equal.
const TOLERANCE: f32 = 0.01;

/// Checks that both predictions list the same classes with the same probabilities. Classes of nearly equal
/// probability may be in a different order, and at the end of the list they may be replaced by classes that the other
/// list omits.
pub fn assert_agreement(one: &Prediction, other: &Prediction) -> Result<()> {
    let (a, b) = (&one.predictions, &other.predictions);
    ensure!(a.len() == b.len() && !a.is_empty(), "expected equally many classes, at least one: {a:?} and {b:?}");
    let last = |list: &[ClassScore]| list.last().map_or(0.0, |score| score.probability);
    for (ours, theirs) in [(a, b), (b, a)] {
        for score in ours {
            let same = theirs.iter().find(|other| other.index == score.index && other.label == score.label);
            let probability = same.map_or(last(theirs), |same| same.probability);
            let near = (score.probability - probability).abs() < TOLERANCE;
            ensure!(near, "{} has the probabilities {} and {probability}", score.label, score.probability);
        }
    }
    for (a, b) in a.iter().zip(b) {
        ensure!((a.probability - b.probability).abs() < TOLERANCE, "{a:?} and {b:?} have the same rank");
    }
    Ok(())
}
