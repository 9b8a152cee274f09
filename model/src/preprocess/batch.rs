//! A batch of preprocessed images: bytes, together with the mean and standard deviation that normalise them.

/// A batch of images, u8 RGB `[batch, height, width, 3]`, not normalised. The engine subtracts `mean` and divides by
/// `std` as its first step: the stem's padding is zero after normalisation, so normalisation cannot be folded into the
/// stem.
///
/// ```
/// use model::preprocess::{ImageBatch, Preprocessing};
///
/// let Preprocessing { mean, std, .. } = Preprocessing::default();
/// let black = ImageBatch::new(vec![0; 224 * 224 * 3], [1, 224, 224], mean, std)?;
/// let batch = ImageBatch::stack([black.clone(), black])?;
/// assert_eq!(batch.shape(), [2, 224, 224]);
/// # Ok::<(), model::preprocess::BatchError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ImageBatch {
    pixels: Vec<u8>,
    batch: usize,
    height: usize,
    width: usize,
    mean: [f32; 3],
    std: [f32; 3],
}

/// Reasons why images cannot form a batch.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("{bytes} bytes do not hold a batch of {batch} RGB images of {height}x{width}")]
    Length { bytes: usize, batch: usize, height: usize, width: usize },
    #[error("images of different size or normalisation cannot share a batch")]
    Mixed,
    #[error("a batch needs at least one image")]
    Empty,
}

impl ImageBatch {
    /// Creates a batch from u8 RGB pixels, `[batch, height, width, 3]`.
    ///
    /// # Errors
    /// Returns an error if a dimension is zero, or if the number of bytes does not match the shape.
    pub fn new(
        pixels: Vec<u8>,
        [batch, height, width]: [usize; 3],
        mean: [f32; 3],
        std: [f32; 3],
    ) -> Result<Self, BatchError> {
        if batch == 0 || height == 0 || width == 0 {
            return Err(BatchError::Empty);
        }
        let expected = batch.checked_mul(height).and_then(|n| n.checked_mul(width)).and_then(|n| n.checked_mul(3));
        if expected != Some(pixels.len()) {
            return Err(BatchError::Length { bytes: pixels.len(), batch, height, width });
        }
        Ok(ImageBatch { pixels, batch, height, width, mean, std })
    }

    /// Concatenates batches, in their order.
    ///
    /// # Errors
    /// Returns an error if there are no batches, or if they differ in image size, mean or standard deviation.
    pub fn stack(batches: impl IntoIterator<Item = ImageBatch>) -> Result<Self, BatchError> {
        let mut batches = batches.into_iter();
        let mut all = batches.next().ok_or(BatchError::Empty)?;
        for next in batches {
            let same = (all.height, all.width, all.mean, all.std) == (next.height, next.width, next.mean, next.std);
            if !same {
                return Err(BatchError::Mixed);
            }
            all.pixels.extend_from_slice(&next.pixels);
            all.batch += next.batch;
        }
        Ok(all)
    }

    /// Returns image `index` as a batch of one.
    ///
    /// # Panics
    /// Panics if the batch has no image `index`.
    pub fn image(&self, index: usize) -> Self {
        let size = self.height * self.width * 3;
        ImageBatch { pixels: self.pixels[index * size..][..size].to_vec(), batch: 1, ..*self }
    }

    /// Returns the pixels, u8 RGB `[batch, height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Returns the shape of the batch, `[batch, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.batch, self.height, self.width]
    }

    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    pub fn std(&self) -> [f32; 3] {
        self.std
    }
}
