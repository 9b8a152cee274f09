//! Gathering of a tensor's elements from its storage, by offset and strides, with bounds checks.

use super::PthError;
use super::value::TensorRef;

/// Maximum number of elements of a tensor that has more elements than its storage, because of strides of zero. A
/// batch norm expanded from a single number is legitimate; a classifier of gigabytes expanded from four bytes is an
/// attack.
const MAX_EXPANDED: u64 = 1 << 16;

/// Returns the elements of the tensor in row-major order, as bytes. `storage` has at least the size that the tensor
/// declares for it, and `size` is the size of an element in bytes.
pub(super) fn gather_elements(
    name: &str,
    tensor: &TensorRef,
    storage: &[u8],
    size: usize,
) -> Result<Vec<u8>, PthError> {
    let TensorRef { shape, strides, .. } = tensor;
    let (start, count) = extent(tensor).ok_or_else(|| PthError::OutOfBounds {
        name: name.to_owned(),
        key: tensor.storage.key.to_string(),
        elements: tensor.storage.elements,
    })?;
    if count == 0 {
        return Ok(Vec::new());
    }
    if is_row_major(shape, strides) {
        return Ok(storage[start * size..][..count * size].to_vec());
    }
    // Dimensions of size one are left out: they are never stepped along, and their strides may have any value.
    let dimensions: Vec<(usize, usize)> = shape
        .iter()
        .zip(strides)
        .filter(|(side, _)| **side > 1)
        .map(|(side, stride)| (*side, *stride as usize))
        .collect();
    let mut bytes = Vec::with_capacity(count * size);
    let mut index = vec![0; dimensions.len()];
    let mut position = start;
    for _ in 0..count {
        bytes.extend_from_slice(&storage[position * size..][..size]);
        // Increments the last index, with carry.
        for (index, (side, stride)) in index.iter_mut().zip(&dimensions).rev() {
            *index += 1;
            position += stride;
            if *index < *side {
                break;
            }
            position -= stride * side;
            *index = 0;
        }
    }
    Ok(bytes)
}

/// Returns the first element and the number of elements, if all of them lie within the storage.
fn extent(tensor: &TensorRef) -> Option<(usize, usize)> {
    let TensorRef { storage, offset, shape, strides } = tensor;
    // The number of elements of a view is counted from the start of its storage, too.
    let start = storage.offset.checked_add(*offset)?;
    let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side))?;
    if count == 0 {
        return Some((0, 0));
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(start, |last, (side, stride)| last.checked_add(stride.checked_mul(*side as u64 - 1)?))?;
    // Before a carry, a position may lie beyond the last element, at most at twice its index; the offset of such a
    // position in bytes must not overflow for the widest element.
    let inside = last < storage.elements && storage.elements <= usize::MAX as u64 / 32;
    let bounded = count as u64 <= storage.elements.max(MAX_EXPANDED);
    (inside && bounded).then_some((start as usize, count))
}

fn is_row_major(shape: &[usize], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(side, stride)| {
        let fits = *side == 1 || *stride == expected;
        expected *= *side as u64;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::super::value::StorageRef;
    use super::*;

    /// Gathers a view of a storage of single bytes, in which each element is its own index.
    fn view(elements: u64, offset: u64, shape: &[usize], strides: &[u64]) -> Result<Vec<u8>, PthError> {
        let storage = StorageRef { key: "0".into(), class: "torch.ByteStorage".into(), elements, offset: 0 };
        let tensor = TensorRef { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() };
        let bytes: Vec<u8> = (0..elements.min(256)).map(|index| index as u8).collect();
        gather_elements("t", &tensor, &bytes, 1)
    }

    #[test]
    fn applies_offsets_and_strides() {
        assert_eq!(view(6, 0, &[2, 3], &[3, 1]).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(view(9, 2, &[2, 3], &[3, 1]).unwrap(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(view(6, 0, &[3, 2], &[1, 3]).unwrap(), [0, 3, 1, 4, 2, 5], "transposed");
        assert_eq!(view(6, 0, &[1, 3, 1, 2], &[6, 1, 6, 3]).unwrap(), [0, 3, 1, 4, 2, 5], "channels last");
        assert_eq!(view(2, 1, &[3], &[0]).unwrap(), [1, 1, 1], "expanded");
        assert_eq!(view(3, 2, &[], &[]).unwrap(), [2], "a scalar");
        assert_eq!(view(3, 9, &[2, 0], &[1, 1]).unwrap(), [0u8; 0], "empty");
        assert_eq!(
            view(4, 0, &[1, 2, 1], &[u64::MAX, 2, u64::MAX]).unwrap(),
            [0, 2],
            "strides of dimensions of size one"
        );
    }

    #[test]
    fn rejects_views_beyond_their_storage() {
        for (offset, shape, strides) in [
            (0, &[7][..], &[1][..]),
            (4, &[3], &[1]),
            (0, &[2, 3], &[4, 1]),
            (u64::MAX, &[2], &[1]),
            (0, &[2], &[u64::MAX]),
            (0, &[3, 3], &[u64::MAX / 2, u64::MAX / 2]),
            (0, &[usize::MAX, usize::MAX], &[0, 0]),
            (0, &[1 << 20], &[0]),
        ] {
            let error = view(6, offset, shape, strides).unwrap_err();
            assert!(matches!(error, PthError::OutOfBounds { .. }), "{offset} {shape:?} {strides:?}: {error}");
        }
        assert!(view(u64::MAX, 0, &[1], &[1]).is_err());
    }
}
