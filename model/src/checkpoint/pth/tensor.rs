//! A tensor gathered from its storage: offset and strides honoured, bounds checked.

use super::PthError;
use super::value::TensorRef;

/// Elements that a tensor may have beyond those of its storage, by strides of zero. A batch norm expanded from a single
/// number is honest; a classifier of gigabytes out of four bytes is not.
const MAX_EXPANDED: u64 = 1 << 16;

/// The bytes of the tensor's elements in row-major order. `storage` holds at least what the tensor's storage announces.
pub(super) fn gather(name: &str, tensor: &TensorRef, storage: &[u8], size: usize) -> Result<Vec<u8>, PthError> {
    let TensorRef { shape, strides, .. } = tensor;
    let (begin, count) = extent(tensor).ok_or_else(|| PthError::OutOfBounds {
        name: name.to_owned(),
        key: tensor.storage.key.to_string(),
        elements: tensor.storage.elements,
    })?;
    if count == 0 {
        return Ok(Vec::new());
    }
    if is_row_major(shape, strides) {
        return Ok(storage[begin * size..][..count * size].to_vec());
    }
    // Sides of one are left out: nothing ever steps along them, and their strides may be anything.
    let sides: Vec<(usize, usize)> = shape
        .iter()
        .zip(strides)
        .filter(|(side, _)| **side > 1)
        .map(|(side, stride)| (*side, *stride as usize))
        .collect();
    let mut bytes = Vec::with_capacity(count * size);
    let mut index = vec![0; sides.len()];
    let mut at = begin;
    for _ in 0..count {
        bytes.extend_from_slice(&storage[at * size..][..size]);
        // The next index: the last side counts up, and carries.
        for (position, (side, stride)) in index.iter_mut().zip(&sides).rev() {
            *position += 1;
            at += stride;
            if *position < *side {
                break;
            }
            at -= stride * side;
            *position = 0;
        }
    }
    Ok(bytes)
}

/// The first element and the count of elements, if all of them lie in the storage.
fn extent(tensor: &TensorRef) -> Option<(usize, usize)> {
    let TensorRef { storage, offset, shape, strides } = tensor;
    // A view's elements are counted from the beginning of its storage, too.
    let begin = storage.offset.checked_add(*offset)?;
    let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side))?;
    if count == 0 {
        return Some((0, 0));
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(begin, |last, (side, stride)| last.checked_add(stride.checked_mul(*side as u64 - 1)?))?;
    // Stepping over the end of a side and back reaches at most twice as far, in bytes of the widest number.
    let inside = last < storage.elements && storage.elements <= usize::MAX as u64 / 32;
    let bounded = count as u64 <= storage.elements.max(MAX_EXPANDED);
    (inside && bounded).then_some((begin as usize, count))
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
    use super::super::value::Storage;
    use super::*;

    /// The bytes of a view of a storage of so many elements, each a byte that holds its own index.
    fn view(elements: u64, offset: u64, shape: &[usize], strides: &[u64]) -> Result<Vec<u8>, PthError> {
        let storage = Storage { key: "0".into(), class: "torch.ByteStorage".into(), elements, offset: 0 };
        let tensor = TensorRef { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() };
        let bytes: Vec<u8> = (0..elements.min(256)).map(|index| index as u8).collect();
        gather("t", &tensor, &bytes, 1)
    }

    #[test]
    fn offsets_and_strides_are_honoured() {
        assert_eq!(view(6, 0, &[2, 3], &[3, 1]).unwrap(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(view(9, 2, &[2, 3], &[3, 1]).unwrap(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(view(6, 0, &[3, 2], &[1, 3]).unwrap(), [0, 3, 1, 4, 2, 5], "transposed");
        assert_eq!(view(6, 0, &[1, 3, 1, 2], &[6, 1, 6, 3]).unwrap(), [0, 3, 1, 4, 2, 5], "channels last");
        assert_eq!(view(2, 1, &[3], &[0]).unwrap(), [1, 1, 1], "expanded");
        assert_eq!(view(3, 2, &[], &[]).unwrap(), [2], "a scalar");
        assert_eq!(view(3, 9, &[2, 0], &[1, 1]).unwrap(), [0u8; 0], "empty");
        assert_eq!(view(4, 0, &[1, 2, 1], &[u64::MAX, 2, u64::MAX]).unwrap(), [0, 2], "strides of single sides");
    }

    #[test]
    fn views_beyond_their_storage_are_refused() {
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
