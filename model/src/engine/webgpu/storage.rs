//! Element types of the buffers that hold values and weights. Kernels accumulate sums in f32, whatever the format.

use super::super::Precision;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Formats in which an engine stores values and weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageFormat {
    /// Values and weights as f32.
    #[default]
    F32,
    /// Weights as f16, unpacked in pairs, which every GPU can do, and values as f32. Halves the memory and the
    /// bandwidth that weights take.
    PackedWeights,
    /// Values and weights as f16, for GPUs with `shader-f16`. A value beyond 65504 makes the run fail.
    F16,
}

/// Type of the elements of one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    F32,
    F16,
}

impl StorageFormat {
    /// Returns the format for a precision, on a GPU with or without `shader-f16`.
    pub fn new(precision: Precision, supports_f16: bool) -> Self {
        match precision {
            Precision::F16 if supports_f16 => StorageFormat::F16,
            Precision::F16 => StorageFormat::PackedWeights,
            Precision::F32 | Precision::Bf16 => StorageFormat::F32,
        }
    }

    pub fn value_type(self) -> ElementType {
        match self {
            StorageFormat::F32 | StorageFormat::PackedWeights => ElementType::F32,
            StorageFormat::F16 => ElementType::F16,
        }
    }

    pub fn weight_type(self) -> ElementType {
        match self {
            StorageFormat::F32 => ElementType::F32,
            StorageFormat::PackedWeights | StorageFormat::F16 => ElementType::F16,
        }
    }
}

impl ElementType {
    /// Returns the size of an element, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            ElementType::F32 => size_of::<f32>(),
            ElementType::F16 => size_of::<f16>(),
        }
    }

    /// Converts numbers to the bytes of a buffer.
    ///
    /// # Errors
    /// Returns the first finite number that overflows the type.
    pub fn encode(self, numbers: &[f32]) -> Result<Vec<u8>, f32> {
        match self {
            ElementType::F32 => Ok(bytemuck::cast_slice(numbers).to_vec()),
            ElementType::F16 => {
                let mut halves = vec![f16::ZERO; numbers.len()];
                halves.convert_from_f32_slice(numbers);
                let overflows = |(half, number): (&f16, &f32)| half.is_infinite() && number.is_finite();
                match halves.iter().zip(numbers).find(|pair| overflows(*pair)) {
                    Some((_, number)) => Err(*number),
                    None => Ok(bytemuck::cast_slice(halves.reinterpret_cast()).to_vec()),
                }
            }
        }
    }

    /// Converts the bytes of a buffer to numbers.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            ElementType::F32 => bytemuck::pod_collect_to_vec(bytes),
            ElementType::F16 => {
                bytes.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_unless_they_overflow() {
        for element in [ElementType::F32, ElementType::F16] {
            let numbers = [0.0, -1.5, 65504.0, 0.000_061_035_156, f32::INFINITY];
            let bytes = element.encode(&numbers).unwrap();
            assert_eq!(bytes.len(), numbers.len() * element.bytes());
            assert_eq!(element.decode(&bytes), numbers);
        }
        assert_eq!(ElementType::F32.encode(&[70000.0]).map(|bytes| bytes.len()), Ok(4));
        assert_eq!(ElementType::F16.encode(&[1.0, -70000.0]), Err(-70000.0));
    }
}
