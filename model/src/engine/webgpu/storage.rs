//! As what values and weights lie in a GPU's memory. Sums are f32 whatever it is.

use super::super::Precision;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// As what an engine keeps values and weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Both as f32.
    #[default]
    F32,
    /// Weights as f16, which every GPU unpacks in pairs, and values as f32: half of the memory and of the traffic for weights.
    PackedWeights,
    /// Both as f16, for GPUs with `shader-f16`. A value beyond 65504 is a failure of the run.
    F16,
}

/// As what one buffer keeps its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
}

impl Storage {
    /// That of a precision, on a GPU with or without `shader-f16`.
    pub fn of(precision: Precision, has_f16: bool) -> Self {
        match precision {
            Precision::F16 if has_f16 => Storage::F16,
            Precision::F16 => Storage::PackedWeights,
            Precision::F32 | Precision::Bf16 => Storage::F32,
        }
    }

    pub fn values(self) -> Element {
        match self {
            Storage::F32 | Storage::PackedWeights => Element::F32,
            Storage::F16 => Element::F16,
        }
    }

    pub fn weights(self) -> Element {
        match self {
            Storage::F32 => Element::F32,
            Storage::PackedWeights | Storage::F16 => Element::F16,
        }
    }
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => size_of::<f32>(),
            Element::F16 => size_of::<f16>(),
        }
    }

    /// Numbers as bytes.
    ///
    /// # Errors
    /// A number that is finite, and would not be any more.
    pub fn encode(self, numbers: &[f32]) -> Result<Vec<u8>, f32> {
        match self {
            Element::F32 => Ok(bytemuck::cast_slice(numbers).to_vec()),
            Element::F16 => {
                let mut halves = vec![f16::ZERO; numbers.len()];
                halves.convert_from_f32_slice(numbers);
                let too_large = |(half, number): (&f16, &f32)| half.is_infinite() && number.is_finite();
                match halves.iter().zip(numbers).find(|pair| too_large(*pair)) {
                    Some((_, number)) => Err(*number),
                    None => Ok(bytemuck::cast_slice(halves.reinterpret_cast()).to_vec()),
                }
            }
        }
    }

    /// Numbers from bytes.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Element::F32 => bytemuck::pod_collect_to_vec(bytes),
            Element::F16 => bytes.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_if_there_is_room_for_them() {
        for element in [Element::F32, Element::F16] {
            let numbers = [0.0, -1.5, 65504.0, 0.000_061_035_156, f32::INFINITY];
            let bytes = element.encode(&numbers).unwrap();
            assert_eq!(bytes.len(), numbers.len() * element.bytes());
            assert_eq!(element.decode(&bytes), numbers);
        }
        assert_eq!(Element::F32.encode(&[70000.0]).map(|bytes| bytes.len()), Ok(4));
        assert_eq!(Element::F16.encode(&[1.0, -70000.0]), Err(-70000.0));
    }
}
