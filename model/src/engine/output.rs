//! Outputs of a run: logits, and the activations that the caller selects.

use super::{Device, EngineError};
use crate::plan::Tap;

/// Output of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub logits: Logits,
    /// One per requested tap, in the order of the request.
    pub activations: Vec<Activation>,
}

/// The logits of a batch, f32 `[batch, classes]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    pub values: Vec<f32>,
    pub batch: usize,
    pub classes: usize,
}

impl Logits {
    /// Wraps the logits that an engine computed, `[batch, classes]`.
    ///
    /// # Errors
    /// Returns [`EngineError::NotFinite`] if a value is infinite or NaN: the device or the input is faulty then, so the
    /// values must not be used.
    pub fn new(values: Vec<f32>, [batch, classes]: [usize; 2], device: Device) -> Result<Self, EngineError> {
        match values.iter().find(|value| !value.is_finite()) {
            Some(&value) => Err(EngineError::NotFinite { device, value }),
            None => Ok(Logits { values, batch, classes }),
        }
    }

    /// Returns the logits of image `index`, `[classes]`.
    ///
    /// # Panics
    /// Panics if `index` is out of range.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.classes..][..self.classes]
    }
}

/// An intermediate value of a run, f32 `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    pub tap: Tap,
    pub values: Vec<f32>,
    pub shape: [usize; 4],
}
