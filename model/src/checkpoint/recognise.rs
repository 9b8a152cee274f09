//! Which network a set of tensors belongs to, and how it differs from the one it should belong to.

use super::CheckpointError;
use crate::architecture::{Architecture, Stem, StridePlacement, VARIANTS};
use std::collections::BTreeMap;

/// Shapes by torchvision's names.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// Whether a state dict may hold this beside the network's tensors: counters of updates, which nothing here reads.
pub(super) fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked") || name == "n_averaged"
}

/// The first difference from `architecture`, if there is one.
pub(super) fn check(architecture: &Architecture, shapes: &Shapes) -> Result<(), CheckpointError> {
    match differences(architecture, shapes).1 {
        Some(first) => Err(first),
        None => Ok(()),
    }
}

/// The architecture with exactly these tensors. Strides leave no trace in them: a 7x7 stem is taken for torchvision's
/// with stride 2, a bottleneck for v1.5.
pub(super) fn recognise(shapes: &Shapes) -> Result<Architecture, CheckpointError> {
    // A file without a classifier is compared as if it had torchvision's, to name what is missing.
    let classes = shapes.get("fc.weight").and_then(|shape| shape.first()).map_or(1000, |classes| *classes);
    let resnet18 = Architecture::new("resnet18", classes)?;
    let mut nearest = None;
    for variant in &VARIANTS {
        for stem in [Stem::Imagenet, Stem::Small] {
            let candidate = Architecture { variant, stem, stride_placement: StridePlacement::Middle, ..resnet18 };
            let (count, first) = differences(&candidate, shapes);
            let Some(first) = first else { return Ok(candidate) };
            if nearest.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
                nearest = Some((count, first));
            }
        }
    }
    let (_, reason) = nearest.expect("the table has rows");
    Err(CheckpointError::Unrecognised { reason: Box::new(reason) })
}

/// How many tensors differ, and the first of them: missing, of another shape, or too many.
fn differences(architecture: &Architecture, shapes: &Shapes) -> (usize, Option<CheckpointError>) {
    let (mut count, mut present, mut first) = (0, 0, None);
    let tensors = architecture.tensors();
    for spec in &tensors {
        let found = shapes.get(&spec.name);
        present += usize::from(found.is_some());
        if found != Some(&spec.shape) {
            count += 1;
            let (name, expected, architecture) = (spec.name.clone(), spec.shape.clone(), architecture.name());
            first.get_or_insert_with(|| match found {
                None => CheckpointError::MissingTensor { name, architecture },
                Some(found) => CheckpointError::WrongShape { name, found: found.clone(), expected, architecture },
            });
        }
    }
    let unexpected = shapes.len() - present;
    if unexpected > 0 && first.is_none() {
        let known = |name: &&String| tensors.iter().any(|spec| spec.name == **name);
        let name = shapes.keys().find(|name| !known(name)).expect("there are more tensors than known ones").clone();
        first = Some(CheckpointError::UnexpectedTensor { name, architecture: architecture.name() });
    }
    (count + unexpected, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Block;

    fn shapes(architecture: &Architecture) -> Shapes {
        architecture.tensors().into_iter().map(|spec| (spec.name, spec.shape)).collect()
    }

    #[test]
    fn every_variant_stem_and_class_count_is_recognised() {
        for variant in &VARIANTS {
            for (stem, classes) in [(Stem::Imagenet, 1000), (Stem::Small, 10), (Stem::Imagenet, 1)] {
                let architecture = Architecture { stem, ..Architecture::new(variant.name, classes).unwrap() };
                assert_eq!(recognise(&shapes(&architecture)).unwrap(), architecture);
            }
        }
    }

    #[test]
    fn v1_is_taken_for_v1_5() {
        for variant in VARIANTS.iter().filter(|variant| variant.block == Block::Bottleneck) {
            let v1 = Architecture::new(&format!("{}_v1", variant.name), 7).unwrap();
            assert_eq!(recognise(&shapes(&v1)).unwrap().name(), variant.name);
        }
    }

    #[test]
    fn the_first_difference_from_the_nearest_is_named() {
        let whole = shapes(&Architecture::new("resnet34", 5).unwrap());
        let reason = |shapes: &Shapes| recognise(shapes).unwrap_err().to_string();

        let mut less = whole.clone();
        less.remove("layer3.5.bn2.running_var");
        assert!(reason(&less).contains(r#"resnet34 needs a tensor "layer3.5.bn2.running_var""#), "{}", reason(&less));

        let mut other = whole.clone();
        other.insert("layer2.0.downsample.0.weight".to_owned(), vec![128, 64, 3, 3]);
        assert!(reason(&other).contains("[128, 64, 3, 3], but resnet34 needs [128, 64, 1, 1]"), "{}", reason(&other));

        let mut more = whole;
        more.insert("layer1.0.se.weight".to_owned(), vec![1]);
        assert!(reason(&more).contains(r#"resnet34 has no tensor "layer1.0.se.weight""#), "{}", reason(&more));
    }

    #[test]
    fn absurd_class_counts_are_refused() {
        for classes in [0, Architecture::MAX_CLASSES + 1] {
            let shapes = Shapes::from([("fc.weight".to_owned(), vec![classes, 512])]);
            assert!(matches!(recognise(&shapes), Err(CheckpointError::Architecture(_))));
        }
        assert!(matches!(recognise(&Shapes::new()), Err(CheckpointError::Unrecognised { .. })));
    }
}
