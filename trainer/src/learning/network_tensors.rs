//! Access to the tensors of a network as a flat list: parameters and running statistics.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use model::network::ResNet;

/// Selects tensors of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFilter {
    /// Parameters and running statistics.
    All,
    /// Running means and variances.
    RunningStatistics,
}

/// Returns the selected tensors, flattened to one dimension, without autodiff, in the order of the module.
pub fn flat_tensors(network: &ResNet, filter: TensorFilter) -> Vec<Tensor<1>> {
    let mut collect = CollectTensors { filter, values: Vec::new() };
    network.visit(&mut collect);
    collect.values
}

/// Replaces the values of the selected tensors, in the order of [`flat_tensors`].
pub fn with_flat_tensors(network: ResNet, filter: TensorFilter, values: Vec<Tensor<1>>) -> ResNet {
    network.map(&mut ReplaceTensors { filter, values: values.into_iter() })
}

/// Replaces the identifiers of the parameters by sequential numbers, in the order of the module. Burn chooses
/// identifiers at random; the state of an optimiser refers to them and could not be loaded by another process.
pub fn with_sequential_ids(network: ResNet) -> ResNet {
    network.map(&mut AssignIds { next: 0 })
}

impl TensorFilter {
    fn includes<const D: usize>(self, param: &Param<Tensor<D>>) -> bool {
        // Burn visits running statistics as parameters that do not require a gradient.
        self == TensorFilter::All || !param.is_require_grad()
    }
}

struct CollectTensors {
    filter: TensorFilter,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for CollectTensors {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.filter.includes(param) {
            self.values.push(param.val().without_autodiff().reshape([-1]));
        }
    }
}

struct ReplaceTensors {
    filter: TensorFilter,
    values: std::vec::IntoIter<Tensor<1>>,
}

impl ModuleMapper for ReplaceTensors {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.filter.includes(&param) {
            return param;
        }
        let values = self.values.next().expect("there is one value per tensor");
        param.map(|tensor| {
            let new = values.reshape(tensor.dims());
            // Tensors without autodiff have no strategy.
            let Some(strategy) = tensor.gradient_checkpointing_strategy() else { return new };
            let new = Tensor::from_inner(new).with_gradient_checkpointing_strategy(strategy);
            new.set_require_grad(tensor.is_require_grad())
        })
    }
}

struct AssignIds {
    next: u64,
}

impl ModuleMapper for AssignIds {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        self.next += 1;
        Param::from_mapped_value(ParamId::from(self.next), tensor, mapper)
    }
}
