//! What steps find before they change the weights.

use serde::{Deserialize, Serialize};
use std::ops::Add;

/// Sums over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Cross-entropy, smoothed labels and weights of classes included.
    pub loss: f64,
    /// What the loss is divided by for its mean.
    pub weight: f64,
    /// Images whose likeliest class is theirs.
    pub correct: f64,
    pub images: f64,
}

impl Add for Found {
    type Output = Found;

    fn add(self, more: Found) -> Found {
        Found {
            loss: self.loss + more.loss,
            weight: self.weight + more.weight,
            correct: self.correct + more.correct,
            images: self.images + more.images,
        }
    }
}
