//! Inputs of a run: a batch of images, as bytes or already normalised.

use super::EngineError;
use crate::preprocess::ImageBatch;

/// Input of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// u8 pixels, which the engine normalises.
    Pixels(ImageBatch),
    /// Tensors that the caller has normalised.
    Normalised(Normalised),
}

impl Input {
    /// Returns the shape of the batch, `[batch, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Input::Pixels(batch) => batch.shape(),
            Input::Normalised(batch) => batch.shape(),
        }
    }
}

/// Normalised images, f32 `[batch, 3, height, width]`: the mean has been subtracted, and the result divided by the
/// standard deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalised {
    values: Vec<f32>,
    shape: [usize; 3],
}

impl Normalised {
    /// Wraps `values` in the layout `[batch, 3, height, width]`.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if there are no values, or if their number does not match the shape.
    pub fn new(values: Vec<f32>, [batch, height, width]: [usize; 3]) -> Result<Self, EngineError> {
        let shape = [batch, height, width];
        let expected = shape.iter().try_fold(3usize, |product, side| product.checked_mul(*side));
        if values.is_empty() || expected != Some(values.len()) {
            return Err(EngineError::InvalidInput(format!(
                "{} values do not fill a batch of shape [{batch}, 3, {height}, {width}]",
                values.len()
            )));
        }
        Ok(Normalised { values, shape })
    }

    /// Concatenates batches in order.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if there is no batch, or if the images differ in size.
    pub fn stack(batches: impl IntoIterator<Item = Normalised>) -> Result<Self, EngineError> {
        let mut batches = batches.into_iter();
        let mut stacked =
            batches.next().ok_or_else(|| EngineError::InvalidInput("a batch needs at least one image".into()))?;
        for next in batches {
            if stacked.shape[1..] != next.shape[1..] {
                return Err(EngineError::InvalidInput("all images of a batch must have the same size".into()));
            }
            stacked.values.extend_from_slice(&next.values);
            stacked.shape[0] += next.shape[0];
        }
        Ok(stacked)
    }

    /// Returns image `index` as a batch of one.
    ///
    /// # Panics
    /// Panics if `index` is out of range.
    pub fn image(&self, index: usize) -> Self {
        let [_, height, width] = self.shape;
        let size = 3 * height * width;
        Normalised { values: self.values[index * size..][..size].to_vec(), shape: [1, height, width] }
    }

    /// Returns the values, `[batch, 3, height, width]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the shape of the batch, `[batch, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
}
