//! Loss, top-1 and top-5 of a checkpoint.

use crate::learning::class_rank;
use anyhow::{Result, ensure};
use model::checkpoint::Metadata;
use serde::Serialize;
use std::fmt;

/// Metrics over all photos that could be decoded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy of the probabilities that users see: with the checkpoint's temperature, if it has one.
    pub loss: f64,
    /// Fraction of photos whose most likely class is correct.
    pub top1: f64,
    /// Fraction of photos whose class is among the five most likely ones.
    pub top5: f64,
    pub photos: usize,
    /// Number of files that could not be decoded.
    pub skipped: usize,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.3}, top-1 {:.1} %, top-5 {:.1} %", self.loss, 100.0 * self.top1, 100.0 * self.top5)
    }
}

/// Sums over photos, which are added up over the replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EvaluationSums {
    pub loss: f64,
    pub top1: f64,
    pub top5: f64,
    pub photos: f64,
    pub skipped: f64,
}

impl EvaluationSums {
    /// Adds a photo with these logits of the model with this metadata, and the correct class.
    pub fn add(&mut self, metadata: &Metadata, logits: &[f32], class: usize) {
        let rank = class_rank(logits, class);
        self.loss += cross_entropy(metadata, logits, class);
        self.top1 += f64::from(u8::from(rank < 1));
        self.top5 += f64::from(u8::from(rank < 5));
        self.photos += 1.0;
    }

    /// Returns the means.
    ///
    /// # Errors
    /// Returns an error if no photo could be decoded.
    pub fn means(self) -> Result<Evaluation> {
        let EvaluationSums { loss, top1, top5, photos, skipped } = self;
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

/// Returns `-ln softmax(logits / temperature)[class]`, with the temperature of the model.
pub fn cross_entropy(metadata: &Metadata, logits: &[f32], class: usize) -> f64 {
    let temperature = f64::from(metadata.temperature.unwrap_or(1.0));
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit - largest) / temperature).exp()).sum();
    sum.ln() - f64::from(logits[class] - largest) / temperature
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;

    /// Expected losses follow the definition of `torch.nn.functional.cross_entropy`: `ln(e^1 + e^2 + e^3) - 3` etc.
    #[test]
    fn sums_loss_and_top_k_hits() {
        let metadata = Metadata::new(Architecture::new("resnet18", 6).unwrap());
        let mut sums = EvaluationSums::default();
        let logits = [3.0, 2.0, 1.0, 0.0, -1.0, -2.0];
        for class in [0, 4, 5] {
            sums.add(&metadata, &logits, class);
        }
        assert_eq!((sums.photos, sums.top1, sums.top5), (3.0, 1.0, 2.0));
        let exponentials: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        assert!((sums.loss - (3.0 * exponentials.ln() - 3.0 + 1.0 + 2.0)).abs() < 1e-9, "{}", sums.loss);
        assert!(cross_entropy(&metadata, &[1000.0, 0.0], 1) == 1000.0, "large logits do not overflow");
        let calibrated = Metadata { temperature: Some(2.0), ..metadata };
        assert!(cross_entropy(&calibrated, &[1000.0, 0.0], 1) == 500.0, "logits are divided by the temperature");
    }
}
