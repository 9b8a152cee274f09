//! How well a checkpoint does on photos whose class is known, by the engine that answers with it.

use crate::data::{DataLoader, SkippedSample};
use crate::learning::class_rank;
use anyhow::{Result, ensure};
use model::engine::{Engine, Input};
use pollster::block_on;
use serde::Serialize;
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
    /// Files that could not be decoded.
    pub skipped: usize,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.3}, top-1 {:.1} %, top-5 {:.1} %", self.loss, 100.0 * self.top1, 100.0 * self.top5)
    }
}

/// Sums over photos, which replicas add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub loss: f64,
    pub top1: f64,
    pub top5: f64,
    pub photos: f64,
    pub skipped: f64,
}

/// Classifies all that the loader brings, unless it is to stop before. And the files that it could not decode.
///
/// # Errors
/// If the device fails.
pub fn count(engine: &Engine, loader: DataLoader, stops: impl Fn() -> bool) -> Result<(Counts, Vec<SkippedSample>)> {
    let (mut counts, mut skipped) = (Counts::default(), Vec::new());
    for batch in loader {
        if stops() {
            break;
        }
        skipped.extend(batch.skipped);
        if let Some(images) = batch.images {
            let logits = block_on(engine.run(&Input::Pixels(images), &[]))?.logits;
            for (row, &class) in batch.classes.iter().enumerate() {
                counts.add(logits.row(row), class);
            }
        }
    }
    counts.skipped = skipped.len() as f64;
    Ok((counts, skipped))
}

impl Counts {
    pub fn add(&mut self, logits: &[f32], class: usize) {
        let rank = class_rank(logits, class);
        self.loss += cross_entropy(logits, class);
        self.top1 += f64::from(u8::from(rank < 1));
        self.top5 += f64::from(u8::from(rank < 5));
        self.photos += 1.0;
    }

    /// # Errors
    /// If there are no photos.
    pub fn evaluation(self) -> Result<Evaluation> {
        let Counts { loss, top1, top5, photos, skipped } = self;
        ensure!(photos > 0.0, "none of {skipped} photos could be decoded");
        Ok(Evaluation {
            loss: loss / photos,
            top1: top1 / photos,
            top5: top5 / photos,
            photos: photos as usize,
            skipped: skipped as usize,
        })
    }
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

    /// By `torch.nn.functional.cross_entropy`'s definition: `ln(e^1 + e^2 + e^3) - 3` and so on.
    #[test]
    fn counts_add_up() {
        let mut counts = Counts::default();
        let logits = [3.0, 2.0, 1.0, 0.0, -1.0, -2.0];
        for class in [0, 4, 5] {
            counts.add(&logits, class);
        }
        assert_eq!((counts.photos, counts.top1, counts.top5), (3.0, 1.0, 2.0));
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!((counts.loss - (3.0 * sum.ln() - 3.0 + 1.0 + 2.0)).abs() < 1e-9, "{}", counts.loss);
        assert!(cross_entropy(&[1000.0, 0.0], 1) == 1000.0, "large logits do not overflow");
    }
}
