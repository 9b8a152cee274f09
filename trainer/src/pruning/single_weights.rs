//! Removal of single weights: those with the smallest magnitudes in all convolutions together become zero.
//!
//! The result equals that of `torch.nn.utils.prune.global_unstructured` with `L1Unstructured`.

use anyhow::{Result, ensure};
use model::checkpoint::Checkpoint;

/// Returns a checkpoint in which the fraction `amount` of the weights of all convolutions is zero.
///
/// # Errors
/// Returns an error if no weight would remain.
pub fn prune_single_weights(checkpoint: Checkpoint, amount: f64) -> Result<Checkpoint> {
    let names: Vec<String> =
        checkpoint.architecture().convolutions().into_iter().map(|layer| format!("{}.weight", layer.name)).collect();
    let metadata = checkpoint.metadata().clone();
    let mut tensors = checkpoint.into_values();
    let weights: Vec<&[f32]> = names.iter().map(|name| &tensors[name][..]).collect();
    let pruned = smallest(&weights, pruned_count(&weights, amount));
    ensure!(pruned.iter().flatten().any(|pruned| !pruned), "{amount} leaves no weight; choose a smaller fraction");
    for (name, pruned) in names.iter().zip(pruned) {
        let weights = tensors.get_mut(name).expect("the checkpoint has the tensors of its architecture");
        weights.iter_mut().zip(pruned).filter(|(_, pruned)| *pruned).for_each(|(weight, _)| *weight = 0.0);
    }
    Ok(Checkpoint::new(metadata, tensors)?)
}

/// Returns the fraction of the weights of all convolutions that is zero.
pub fn zero_fraction(checkpoint: &Checkpoint) -> f64 {
    let (mut zeros, mut count) = (0, 0);
    for layer in checkpoint.architecture().convolutions() {
        let weights = checkpoint.values(&format!("{}.weight", layer.name));
        zeros += weights.iter().filter(|weight| **weight == 0.0).count();
        count += weights.len();
    }
    zeros as f64 / count as f64
}

/// Returns the number of weights that are pruned. As in PyTorch, halves are rounded to the even number.
fn pruned_count(tensors: &[&[f32]], amount: f64) -> usize {
    let count: usize = tensors.iter().map(|tensor| tensor.len()).sum();
    (amount * count as f64).round_ties_even() as usize
}

/// Returns which values of the tensors are the `count` smallest by magnitude; among equal ones, those with the lowest index,
/// counted through all tensors.
fn smallest(tensors: &[&[f32]], count: usize) -> Vec<Vec<bool>> {
    // The bits of finite magnitudes have the order of the magnitudes.
    let bits = |value: &f32| value.abs().to_bits();
    let mut magnitudes: Vec<u32> = tensors.iter().flat_map(|tensor| tensor.iter().map(bits)).collect();
    let Some(last) = count.checked_sub(1) else {
        return tensors.iter().map(|tensor| vec![false; tensor.len()]).collect();
    };
    let (below, &mut threshold, _) = magnitudes.select_nth_unstable(last);
    let mut ties = count - below.iter().filter(|magnitude| **magnitude < threshold).count();
    let mut is_pruned = |value: &f32| {
        let is_tie = bits(value) == threshold && ties > 0;
        ties -= usize::from(is_tie);
        is_tie || bits(value) < threshold
    };
    tensors.iter().map(|tensor| tensor.iter().map(&mut is_pruned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use model::random;
    use serde::Deserialize;

    /// Masks by PyTorch, from `tests/golden/pruning_masks.py`.
    #[derive(Deserialize)]
    struct Golden {
        tensors: Vec<Vec<f32>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        amount: f64,
        /// Indices of the pruned values of each tensor.
        pruned: Vec<Vec<usize>>,
    }

    #[test]
    fn masks_equal_pytorch() {
        let golden: Golden = serde_json::from_str(include_str!("../../tests/golden/pruning_masks.json")).unwrap();
        let tensors: Vec<&[f32]> = golden.tensors.iter().map(Vec::as_slice).collect();
        assert!(golden.cases.len() >= 4);
        for Case { amount, pruned } in golden.cases {
            let masks = smallest(&tensors, pruned_count(&tensors, amount));
            let indices = |mask: Vec<bool>| (0..mask.len()).filter(|index| mask[*index]).collect::<Vec<_>>();
            assert_eq!(masks.into_iter().map(indices).collect::<Vec<_>>(), pruned, "{amount}");
        }
    }

    #[test]
    fn ties_prune_the_lowest_indices_and_the_count_is_exact() {
        let tensors: [&[f32]; 2] = [&[0.5, -0.25, 0.5], &[-0.5, 0.0, -0.0, 0.5]];
        let mask = |count| smallest(&tensors, count).concat().into_iter().map(u8::from).collect::<Vec<_>>();
        assert_eq!(mask(0), [0; 7]);
        assert_eq!(mask(1), [0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(mask(5), [1, 1, 1, 0, 1, 1, 0]);
        assert_eq!(mask(7), [1; 7]);
    }

    #[test]
    fn only_convolutions_are_pruned() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let pruned = prune_single_weights(checkpoint.clone(), 0.3).unwrap();
        assert!((zero_fraction(&pruned) - 0.3).abs() < 1e-6 && zero_fraction(&checkpoint) == 0.0);
        for name in ["fc.weight", "layer3.0.bn1.weight"] {
            assert_eq!(pruned.values(name), checkpoint.values(name));
        }
        let again = prune_single_weights(pruned.clone(), 0.3).unwrap();
        assert_eq!(again.values("conv1.weight"), pruned.values("conv1.weight"));
        assert!(prune_single_weights(checkpoint, 1.0).is_err());
    }
}
