//! Inference of the architecture from the shapes of the tensors, and comparison of the shapes with an architecture.

use super::CheckpointError;
use crate::architecture::{Architecture, ChannelGroup, Stem, VARIANTS};
use std::collections::BTreeMap;

/// Shapes of tensors by torchvision's names.
pub(super) type TensorShapes = BTreeMap<String, Vec<usize>>;

/// Returns whether this is the name of a counter of updates, which a state dict may hold in addition to the network's
/// tensors. Counters are ignored.
pub(super) fn is_counter(name: &str) -> bool {
    name.ends_with(".num_batches_tracked") || name == "n_averaged"
}

/// Checks that these are exactly the tensors of `architecture`; the error is the first difference.
pub(super) fn check_shapes(architecture: &Architecture, shapes: &TensorShapes) -> Result<(), CheckpointError> {
    match differences(architecture, shapes).1 {
        Some(first) => Err(first),
        None => Ok(()),
    }
}

/// Returns the architecture that has exactly these tensors, pruned only if no other has them. Shapes do not reveal strides: a
/// 7x7 stem is assumed to have torchvision's stride of 2, a bottleneck to be v1.5.
pub(super) fn infer_architecture(shapes: &TensorShapes) -> Result<Architecture, CheckpointError> {
    // A file without a classifier is compared as if it had 1000 classes, so that the error names the missing tensor.
    let classes = shapes.get("fc.weight").and_then(|shape| shape.first()).map_or(1000, |classes| *classes);
    let resnet18 = Architecture::new("resnet18", classes)?;
    let mut closest = None;
    for variant in &VARIANTS {
        for stem in [Stem::Imagenet, Stem::Small] {
            let candidate = Architecture { variant, stem, ..resnet18 };
            let (count, first) = differences(&candidate, shapes);
            let Some(first) = first else { return Ok(candidate) };
            if closest.as_ref().is_none_or(|(fewest, _)| count < *fewest) {
                closest = Some((count, first));
            }
        }
    }
    if let Some(pruned) = VARIANTS.iter().find_map(|variant| {
        [Stem::Imagenet, Stem::Small]
            .into_iter()
            .find_map(|stem| pruned(Architecture { variant, stem, ..resnet18 }, shapes))
    }) {
        return Ok(pruned);
    }
    let (_, reason) = closest.expect("the table of variants is not empty");
    Err(CheckpointError::UnknownArchitecture { reason: Box::new(reason) })
}

/// Returns the architecture with the widths that the shapes of its convolutions have, if it has exactly these tensors.
fn pruned(architecture: Architecture, shapes: &TensorShapes) -> Option<Architecture> {
    let mut widths = architecture.widths();
    for (layer, channels) in architecture.convolutions().iter().zip(architecture.convolution_channels()) {
        let width = *shapes.get(&format!("{}.weight", layer.name))?.first()?;
        if width > layer.out_channels {
            return None;
        }
        widths.set(channels.output, width);
        if channels.input.is_none() {
            widths.set(ChannelGroup::Stem, width);
        }
    }
    let pruned = architecture.with_widths(widths).ok()?;
    differences(&pruned, shapes).1.is_none().then_some(pruned)
}

/// Returns the number of tensors that differ, and the first difference: a missing tensor, a wrong shape, or an
/// unexpected tensor.
fn differences(architecture: &Architecture, shapes: &TensorShapes) -> (usize, Option<CheckpointError>) {
    let (mut count, mut present, mut first) = (0, 0, None);
    let tensors = architecture.tensors();
    for spec in &tensors {
        let found = shapes.get(&spec.name);
        present += usize::from(found.is_some());
        if found != Some(&spec.shape) {
            count += 1;
            let (name, expected, architecture) = (spec.name.clone(), spec.shape.clone(), architecture.to_string());
            first.get_or_insert_with(|| match found {
                None => CheckpointError::MissingTensor { name, architecture },
                Some(found) => CheckpointError::WrongShape { name, found: found.clone(), expected, architecture },
            });
        }
    }
    let unexpected = shapes.len() - present;
    if unexpected > 0 && first.is_none() {
        let known = |name: &&String| tensors.iter().any(|spec| spec.name == **name);
        let name = shapes.keys().find(|name| !known(name)).expect("there are more tensors than known names").clone();
        first = Some(CheckpointError::UnexpectedTensor { name, architecture: architecture.to_string() });
    }
    (count + unexpected, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Block;

    fn shapes(architecture: &Architecture) -> TensorShapes {
        architecture.tensors().into_iter().map(|spec| (spec.name, spec.shape)).collect()
    }

    #[test]
    fn infers_every_variant_stem_and_class_count() {
        for variant in &VARIANTS {
            for (stem, classes) in [(Stem::Imagenet, 1000), (Stem::Small, 10), (Stem::Imagenet, 1)] {
                let architecture = Architecture { stem, ..Architecture::new(variant.name, classes).unwrap() };
                assert_eq!(infer_architecture(&shapes(&architecture)).unwrap(), architecture);
            }
        }
    }

    #[test]
    fn widths_are_inferred_if_no_unpruned_architecture_matches() {
        for (name, stem) in [("resnet18", Stem::Imagenet), ("resnet34", Stem::Small), ("resnet101", Stem::Imagenet)] {
            let architecture = Architecture { stem, ..Architecture::new(name, 10).unwrap() };
            let mut widths = architecture.widths();
            for (index, group) in architecture.channel_groups().into_iter().enumerate() {
                widths.set(group, widths.get(group) - 16 * (index % 3));
            }
            widths.set(ChannelGroup::Stage(0), widths.get(ChannelGroup::Stem));
            let pruned = architecture.with_widths(widths).unwrap();
            let mut shapes = shapes(&pruned);
            assert_eq!(infer_architecture(&shapes).unwrap(), pruned, "{name}");
            // One of the writers of a stage has another width than the others.
            let writer = if name == "resnet101" { "layer2.1.conv3.weight" } else { "layer2.1.conv2.weight" };
            shapes.get_mut(writer).unwrap()[0] -= 16;
            assert!(matches!(infer_architecture(&shapes), Err(CheckpointError::UnknownArchitecture { .. })), "{name}");
        }
    }

    #[test]
    fn v1_is_inferred_as_v1_5() {
        for variant in VARIANTS.iter().filter(|variant| variant.block == Block::Bottleneck) {
            let v1 = Architecture::new(&format!("{}_v1", variant.name), 7).unwrap();
            assert_eq!(infer_architecture(&shapes(&v1)).unwrap().name(), variant.name);
        }
    }

    #[test]
    fn error_names_the_first_difference_from_the_closest_architecture() {
        let whole = shapes(&Architecture::new("resnet34", 5).unwrap());
        let reason = |shapes: &TensorShapes| infer_architecture(shapes).unwrap_err().to_string();

        let mut missing = whole.clone();
        missing.remove("layer3.5.bn2.running_var");
        assert!(
            reason(&missing).contains(r#"resnet34 needs a tensor "layer3.5.bn2.running_var""#),
            "{}",
            reason(&missing)
        );

        let mut wrong = whole.clone();
        wrong.insert("layer2.0.downsample.0.weight".to_owned(), vec![128, 64, 3, 3]);
        assert!(reason(&wrong).contains("[128, 64, 3, 3], but resnet34 needs [128, 64, 1, 1]"), "{}", reason(&wrong));

        let mut extra = whole;
        extra.insert("layer1.0.se.weight".to_owned(), vec![1]);
        assert!(reason(&extra).contains(r#"resnet34 has no tensor "layer1.0.se.weight""#), "{}", reason(&extra));
    }

    #[test]
    fn rejects_class_counts_out_of_range() {
        for classes in [0, Architecture::MAX_CLASSES + 1] {
            let shapes = TensorShapes::from([("fc.weight".to_owned(), vec![classes, 512])]);
            assert!(matches!(infer_architecture(&shapes), Err(CheckpointError::Architecture(_))));
        }
        assert!(matches!(infer_architecture(&TensorShapes::new()), Err(CheckpointError::UnknownArchitecture { .. })));
    }
}
