//! Positions of the network's tensors in two arrays: the parameters, which are trained, and the running statistics.

use crate::architecture::{Architecture, TensorKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// Positions of all tensors.
#[derive(Clone, Debug)]
pub struct TensorLayout {
    pub parameters: Vec<TensorRange>,
    pub statistics: Vec<TensorRange>,
}

/// The range of a tensor in an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRange {
    /// torchvision's name.
    pub name: String,
    pub kind: TensorKind,
    pub range: Range<usize>,
}

impl TensorLayout {
    /// Places the tensors of an architecture one after the other, in torchvision's order.
    pub fn new(architecture: &Architecture) -> Self {
        let mut layout = TensorLayout { parameters: Vec::new(), statistics: Vec::new() };
        for tensor in architecture.tensors() {
            let is_statistic = tensor.kind == TensorKind::Statistic;
            let ranges = if is_statistic { &mut layout.statistics } else { &mut layout.parameters };
            let start = ranges.last().map_or(0, |last| last.range.end);
            let range = start..start + tensor.shape.iter().product::<usize>();
            ranges.push(TensorRange { name: tensor.name, kind: tensor.kind, range });
        }
        layout
    }

    /// Returns the range of the parameter with this name.
    ///
    /// # Panics
    /// Panics if the architecture has no such parameter.
    pub(super) fn parameter(&self, name: &str) -> Range<usize> {
        find(&self.parameters, name)
    }

    /// Returns the range of the running statistic with this name.
    ///
    /// # Panics
    /// Panics if the architecture has no such statistic.
    pub(super) fn statistic(&self, name: &str) -> Range<usize> {
        find(&self.statistics, name)
    }

    /// Returns the length of the array of parameters.
    pub fn parameters_len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// Returns the length of the array of running statistics.
    pub fn statistics_len(&self) -> usize {
        self.statistics.last().map_or(0, |last| last.range.end)
    }

    /// Copies the tensors out of the two arrays, by name.
    pub fn named_tensors(&self, parameters: &[f32], statistics: &[f32]) -> BTreeMap<String, Vec<f32>> {
        let named = |ranges: &[TensorRange], values: &[f32]| -> Vec<(String, Vec<f32>)> {
            ranges.iter().map(|tensor| (tensor.name.clone(), values[tensor.range.clone()].to_vec())).collect()
        };
        named(&self.parameters, parameters).into_iter().chain(named(&self.statistics, statistics)).collect()
    }
}

fn find(ranges: &[TensorRange], name: &str) -> Range<usize> {
    let tensor = ranges.iter().find(|tensor| tensor.name == name);
    tensor.unwrap_or_else(|| panic!("the architecture has no tensor {name}")).range.clone()
}
