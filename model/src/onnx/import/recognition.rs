//! Recognition of the architecture from the convolutions of a graph.

use super::OnnxError;
use super::graph::Graph;
use super::structure::{NetworkNodes, is_transposed};
use crate::architecture::{Architecture, Convolution, Stem};
use crate::checkpoint::CheckpointError;

/// Returns the architecture that has exactly these layers, with the same strides.
///
/// # Errors
/// Returns an error with the first difference from the closest architecture if there is none.
pub(super) fn architecture(graph: &Graph, nodes: &NetworkNodes) -> Result<Architecture, OnnxError> {
    let weight = graph.initialiser(nodes.classifier, 1)?;
    let axis = if is_transposed(nodes.classifier) { 0 } else { 1 };
    let classes = weight.dims.get(axis).and_then(|classes| usize::try_from(*classes).ok()).unwrap_or(0);

    let mut closest: Option<(usize, Architecture, String)> = None;
    for name in Architecture::names() {
        for stem in [Stem::Imagenet, Stem::ImagenetStride1, Stem::Small] {
            let known = Architecture::new(&name, classes).map_err(CheckpointError::from)?;
            let candidate = Architecture { stem, ..known };
            let Some((position, difference)) = first_difference(nodes, &candidate) else { return Ok(candidate) };
            if closest.as_ref().is_none_or(|(farthest, ..)| position > *farthest) {
                closest = Some((position, candidate, difference));
            }
        }
    }
    let (_, closest, difference) = closest.expect("the table of architectures is not empty");
    Err(OnnxError::UnknownArchitecture { closest: closest.name(), difference })
}

/// Returns the position of the first layer that differs from an architecture, and a description.
fn first_difference(nodes: &NetworkNodes, architecture: &Architecture) -> Option<(usize, String)> {
    let stem = architecture.stem();
    let first = &nodes.stem.layer;
    if !is_same(first, &stem.convolution) {
        return Some((0, describe_difference("conv1", first, &stem.convolution)));
    }
    if nodes.max_pool != stem.max_pool {
        let (found, expected) = (nodes.max_pool, stem.max_pool);
        return Some((1, format!("the stem has the max-pool {found:?}, expected {expected:?}")));
    }
    let mut position = 2;
    let expected: Vec<_> = architecture.stages().into_iter().flatten().collect();
    for (found, expected) in nodes.blocks.iter().zip(&expected) {
        let counts = [found.convolutions.len(), expected.convolutions.len()];
        if counts[0] != counts[1] || found.downsample.is_some() != expected.downsample.is_some() {
            return Some((position, format!("{} has other convolutions", expected.name)));
        }
        let pairs = found.convolutions.iter().chain(&found.downsample);
        for (found, expected) in pairs.zip(expected.convolutions.iter().chain(&expected.downsample)) {
            if !is_same(&found.layer, expected) {
                return Some((position, describe_difference(&expected.name, &found.layer, expected)));
            }
            position += 1;
        }
    }
    let (found, expected) = (nodes.blocks.len(), expected.len());
    (found != expected).then(|| (position, format!("the network has {found} blocks, expected {expected}")))
}

fn is_same(found: &Convolution, expected: &Convolution) -> bool {
    let Convolution { name, norm, .. } = expected.clone();
    Convolution { name, norm, ..found.clone() } == *expected
}

fn describe_difference(name: &str, found: &Convolution, expected: &Convolution) -> String {
    let describe = |layer: &Convolution| {
        let Convolution { stride, padding, groups, .. } = layer;
        format!(
            "weight {:?}, stride {stride}, padding {padding}, {groups} groups",
            [layer.out_channels, layer.in_channels / groups, layer.kernel, layer.kernel,]
        )
    };
    format!("{name} has {}, expected {}", describe(found), describe(expected))
}
