//! Whether two answers to one photo are the same.

use anyhow::{Result, ensure};
use model::prediction::{Prediction, Ranked};

/// Probabilities nearer than this are equal.
const TOLERANCE: f32 = 0.01;

/// The same classes with the same probabilities; entries of near probability may have changed places, and those at
/// the end of the list may have changed with others that it does not show.
pub fn assert_agreement(one: &Prediction, other: &Prediction) -> Result<()> {
    let (a, b) = (&one.predictions, &other.predictions);
    ensure!(a.len() == b.len() && !a.is_empty(), "{a:?} and {b:?}");
    let last = |list: &[Ranked]| list.last().map_or(0.0, |ranked| ranked.probability);
    for (mine, theirs) in [(a, b), (b, a)] {
        for ranked in mine {
            let twin = theirs.iter().find(|twin| twin.index == ranked.index && twin.label == ranked.label);
            let probability = twin.map_or(last(theirs), |twin| twin.probability);
            let near = (ranked.probability - probability).abs() < TOLERANCE;
            ensure!(near, "{} has {} here and {probability} there", ranked.label, ranked.probability);
        }
    }
    for (a, b) in a.iter().zip(b) {
        ensure!((a.probability - b.probability).abs() < TOLERANCE, "{a:?} and {b:?} have the same rank");
    }
    Ok(())
}
