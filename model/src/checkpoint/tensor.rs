//! A tensor in memory, in its stored number format.

use super::{CheckpointError, Dtype};
use crate::large_pages;
use half::{bf16, f16};
use safetensors::Dtype as FileDtype;

/// A tensor in row-major order. The shape has at least one dimension.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredTensor {
    shape: Vec<usize>,
    elements: Elements,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// One scale per index of the first dimension.
    I8 {
        values: Vec<i8>,
        scales: Vec<f32>,
    },
}

impl Elements {
    /// Decodes the little-endian bytes of a file. BF16 and F64 become fp32, which represents BF16 exactly.
    /// Returns `None` for dtypes other than floats; int8 is combined with its scales elsewhere.
    pub(super) fn from_le_bytes(dtype: FileDtype, bytes: &[u8]) -> Option<Self> {
        Some(match dtype {
            FileDtype::F32 => Elements::F32(map_chunks(bytes, f32::from_le_bytes)),
            FileDtype::F16 => Elements::F16(map_chunks(bytes, f16::from_le_bytes)),
            FileDtype::BF16 => Elements::F32(map_chunks(bytes, |chunk| bf16::from_le_bytes(chunk).to_f32())),
            FileDtype::F64 => Elements::F32(map_chunks(bytes, |chunk| f64::from_le_bytes(chunk) as f32)),
            _ => return None,
        })
    }
}

/// Converts each whole chunk of `N` bytes into a number.
pub(super) fn map_chunks<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    let chunks = bytes.as_chunks::<N>().0;
    let mut numbers = Vec::with_capacity(chunks.len());
    large_pages::advise(numbers.spare_capacity_mut());
    numbers.extend(chunks.iter().map(|chunk| number(*chunk)));
    numbers
}

/// Converts each number into `N` bytes, the inverse of [`map_chunks`].
pub(super) fn to_bytes<const N: usize, T: Copy>(values: &[T], bytes_of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(N * values.len());
    for value in values {
        bytes.extend_from_slice(&bytes_of(*value));
    }
    bytes
}

impl StoredTensor {
    /// Creates a tensor; the caller has checked that the number of elements matches the shape.
    pub(super) fn new(shape: Vec<usize>, elements: Elements) -> Self {
        StoredTensor { shape, elements }
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn elements(&self) -> &Elements {
        &self.elements
    }

    pub(super) fn dtype(&self) -> Dtype {
        match self.elements {
            Elements::F32(_) => Dtype::F32,
            Elements::F16(_) => Dtype::F16,
            Elements::I8 { .. } => Dtype::I8,
        }
    }

    /// Returns the size in a file, in bytes, including scales.
    pub(super) fn byte_count(&self) -> usize {
        match &self.elements {
            Elements::F32(values) => 4 * values.len(),
            Elements::F16(values) => 2 * values.len(),
            Elements::I8 { values, scales } => values.len() + 4 * scales.len(),
        }
    }

    /// Returns the values as f32 in row-major order, int8 multiplied by its scales.
    pub(super) fn values(&self) -> Vec<f32> {
        match &self.elements {
            Elements::F32(values) => values.clone(),
            Elements::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Elements::I8 { values, scales } => {
                let rows = values.chunks_exact(values.len() / scales.len()).zip(scales);
                rows.flat_map(|(row, scale)| row.iter().map(move |value| f32::from(*value) * scale)).collect()
            }
        }
    }

    /// Returns the same as [`values`](Self::values), but does not copy values that are fp32 already.
    pub(super) fn into_values(self) -> Vec<f32> {
        match self.elements {
            Elements::F32(values) => values,
            _ => self.values(),
        }
    }

    /// Checks that all values are finite and variances are not negative: otherwise every output of the network could
    /// be NaN.
    pub(super) fn check(&self, name: &str) -> Result<(), CheckpointError> {
        match self.first_invalid(name) {
            None => Ok(()),
            Some(index) => {
                Err(CheckpointError::InvalidValue { name: name.to_owned(), index, value: self.values()[index] })
            }
        }
    }

    /// Returns the index of the first value that is not finite or, in a variance, negative.
    fn first_invalid(&self, name: &str) -> Option<usize> {
        let is_variance = name.ends_with(".running_var");
        let wrong = |value: f32| !value.is_finite() || (is_variance && value < 0.0);
        match &self.elements {
            Elements::F32(values) => values.iter().position(|value| wrong(*value)),
            Elements::F16(values) => values.iter().position(|value| wrong(value.to_f32())),
            // Scales are checked where they are read or computed.
            Elements::I8 { .. } => None,
        }
    }

    /// Converts the values to `dtype`, rounding to nearest; `name` is used in the error.
    pub(super) fn convert(&self, name: &str, dtype: Dtype) -> Result<Self, CheckpointError> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        let values = self.values();
        let largest = match dtype {
            Dtype::F32 => f32::INFINITY,
            Dtype::F16 => f16::MAX.to_f32(),
            // 127 times a scale that was rounded up must not overflow.
            Dtype::I8 => f32::MAX / 2.0,
        };
        // The comparison is written so that NaN counts as too large.
        let wrong = |value: &f32| dtype != Dtype::F32 && !matches!(value.abs(), size if size <= largest);
        if let Some(index) = values.iter().position(wrong) {
            return Err(CheckpointError::Unrepresentable { name: name.to_owned(), index, value: values[index], dtype });
        }
        let elements = match dtype {
            Dtype::F32 => Elements::F32(values),
            Dtype::F16 => Elements::F16(values.into_iter().map(f16::from_f32).collect()),
            Dtype::I8 => quantise(&values, self.shape[0]),
        };
        Ok(StoredTensor { shape: self.shape.clone(), elements })
    }
}

/// Quantises to symmetric int8, row by row: the largest magnitude of a row becomes 127, other values are rounded to
/// nearest.
fn quantise(values: &[f32], rows: usize) -> Elements {
    let mut scales = Vec::with_capacity(rows);
    let mut quantised = Vec::with_capacity(values.len());
    for row in values.chunks_exact(values.len() / rows) {
        let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // For a row of zeros, or of values so small that the quotient underflows, any scale will do.
        let scale = if largest / 127.0 > 0.0 { largest / 127.0 } else { 1.0 };
        scales.push(scale);
        quantised.extend(row.iter().map(|value| (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8));
    }
    Elements::I8 { values: quantised, scales }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> StoredTensor {
        StoredTensor::new(shape.to_vec(), Elements::F32(values.to_vec()))
    }

    #[test]
    fn int8_is_within_half_a_step_of_each_row() {
        let values: Vec<f32> =
            (0..64).map(|i| ((i * 37 % 64) as f32 - 31.0) * if i < 32 { 0.01 } else { 7.0 }).collect();
        let converted = tensor(&[2, 32], &values).convert("w", Dtype::I8).unwrap();
        for (row, got) in values.chunks(32).zip(converted.values().chunks(32)) {
            let step = row.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
            for (value, got) in row.iter().zip(got) {
                assert!((value - got).abs() <= step * 0.5001, "{value} became {got}, step {step}");
            }
        }
        assert_eq!(converted.byte_count(), 64 + 8);
    }

    #[test]
    fn int8_rounds_to_nearest_and_preserves_zero_and_extremes() {
        let row = [127.0, -127.0, 0.0, 0.4, 0.6, -63.5, 62.5];
        let converted = tensor(&[1, 7], &row).convert("w", Dtype::I8).unwrap();
        assert_eq!(converted.values(), [127.0, -127.0, 0.0, 0.0, 1.0, -64.0, 62.0]);
    }

    #[test]
    fn int8_rows_of_zeros_or_tiny_values_stay_finite() {
        let values = [0.0, -0.0, 1e-45, -1e-45, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, f32::MAX / 2.0, -f32::MAX / 2.0];
        let converted = tensor(&[4, 2], &values).convert("w", Dtype::I8).unwrap().values();
        assert!(converted.iter().all(|value| value.is_finite()), "{converted:?}");
        assert_eq!(converted[..4], [0.0; 4]);
    }

    #[test]
    fn unrepresentable_values_are_rejected_by_name_and_index() {
        let cases = [
            (f32::NAN, Dtype::I8),
            (f32::INFINITY, Dtype::I8),
            (f32::MAX, Dtype::I8),
            (f32::NAN, Dtype::F16),
            (65505.0, Dtype::F16),
            (-1e6, Dtype::F16),
        ];
        for (bad, dtype) in cases {
            let error = tensor(&[2, 1], &[1.0, bad]).convert("layer1.0.conv1.weight", dtype).unwrap_err();
            assert!(matches!(error, CheckpointError::Unrepresentable { index: 1, .. }), "{error}");
            assert!(error.to_string().contains("layer1.0.conv1.weight"), "{error}");
        }
        assert_eq!(tensor(&[1], &[65504.0]).convert("w", Dtype::F16).unwrap().values(), [65504.0]);
    }

    #[test]
    fn other_float_formats_are_widened() {
        let widened =
            |dtype, bytes: &[u8]| StoredTensor::new(vec![1], Elements::from_le_bytes(dtype, bytes).unwrap()).values();
        assert_eq!(widened(FileDtype::BF16, &bf16::from_f32(1.5).to_le_bytes()), [1.5]);
        assert_eq!(widened(FileDtype::F64, &(-0.25f64).to_le_bytes()), [-0.25]);
        assert_eq!(widened(FileDtype::F16, &f16::from_f32(3.0).to_le_bytes()), [3.0]);
        assert_eq!(Elements::from_le_bytes(FileDtype::I64, &[0; 8]), None);
    }
}
