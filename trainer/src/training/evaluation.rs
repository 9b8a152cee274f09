//! How well a checkpoint does on photos whose class is known, by the engine that answers with it.

use super::interrupt::Interrupt;
use crate::data::{Loader, Skipped};
use anyhow::{Result, ensure};
use model::engine::{Engine, Input};
use pollster::block_on;
use serde::{Serialize, Serializer};
use std::fmt;

/// Over every photo that could be decoded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of photos whose likeliest class is theirs.
    pub top1: f64,
    /// Share of photos whose class is among the five likeliest.
    pub top5: f64,
    pub photos: usize,
    /// Of which JSON gets the number.
    #[serde(serialize_with = "number")]
    pub skipped: Vec<Skipped>,
}

fn number<S: Serializer>(skipped: &[Skipped], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(skipped.len() as u64)
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.3}, top-1 {:.1} %, top-5 {:.1} %", self.loss, 100.0 * self.top1, 100.0 * self.top5)
    }
}

/// What has been counted so far.
#[derive(Default)]
struct Counts {
    loss: f64,
    top1: usize,
    top5: usize,
    photos: usize,
}

/// Classifies all that the loader brings; `None` if it was interrupted.
///
/// # Errors
/// If the device fails, or if no photo could be decoded.
pub fn evaluate(engine: &Engine, loader: Loader, interrupt: &Interrupt) -> Result<Option<Evaluation>> {
    let (mut counts, mut skipped) = (Counts::default(), Vec::new());
    for batch in loader {
        if interrupt.is_raised() {
            return Ok(None);
        }
        skipped.extend(batch.skipped);
        if let Some(images) = batch.images {
            let logits = block_on(engine.run(&Input::Pixels(images), &[]))?.logits;
            for (row, &class) in batch.classes.iter().enumerate() {
                counts.add(logits.row(row), class);
            }
        }
    }
    ensure!(counts.photos > 0, "none of {} photos could be decoded", skipped.len());
    let share = |count: usize| count as f64 / counts.photos as f64;
    Ok(Some(Evaluation {
        loss: counts.loss / counts.photos as f64,
        top1: share(counts.top1),
        top5: share(counts.top5),
        photos: counts.photos,
        skipped,
    }))
}

impl Counts {
    fn add(&mut self, logits: &[f32], class: usize) {
        let rank = rank(logits, class);
        self.loss += cross_entropy(logits, class);
        self.top1 += usize::from(rank < 1);
        self.top5 += usize::from(rank < 5);
        self.photos += 1;
    }
}

/// How many classes are likelier; of equals the lower index comes first, as in an answer.
pub fn rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    let before = |(index, &logit): (usize, &f32)| logit > own || (logit == own && index < class);
    logits.iter().enumerate().filter(|&entry| before(entry)).count()
}

/// `-ln softmax(logits)[class]`
fn cross_entropy(logits: &[f32], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    sum.ln() - f64::from(logits[class] - largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_ranked_by_index() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|class| rank(&logits, class)), [2, 0, 1, 3]);
    }

    /// By `torch.nn.functional.cross_entropy`'s definition: `ln(e^1 + e^2 + e^3) - 3` and so on.
    #[test]
    fn counts_add_up() {
        let mut counts = Counts::default();
        let logits = [3.0, 2.0, 1.0, 0.0, -1.0, -2.0];
        for class in [0, 4, 5] {
            counts.add(&logits, class);
        }
        assert_eq!((counts.photos, counts.top1, counts.top5), (3, 1, 2));
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!((counts.loss - (3.0 * sum.ln() - 3.0 + 1.0 + 2.0)).abs() < 1e-9, "{}", counts.loss);
        assert!(cross_entropy(&[1000.0, 0.0], 1) == 1000.0, "large logits do not overflow");
    }
}
