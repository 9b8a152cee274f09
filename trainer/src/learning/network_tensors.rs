//! The tensors of a network as one list: parameters, and running statistics.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use model::network::ResNet;

/// Which tensors of a network are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFilter {
    All,
    /// Running means and variances.
    RunningStatistics,
}

/// Flattened, without autodiff, in the module's order.
pub fn flat_tensors(network: &ResNet, filter: TensorFilter) -> Vec<Tensor<1>> {
    let mut collect = CollectTensors { filter, values: Vec::new() };
    network.visit(&mut collect);
    collect.values
}

/// The same network with other values, in the order of [`flat_tensors`].
pub fn with_flat_tensors(network: ResNet, filter: TensorFilter, values: Vec<Tensor<1>>) -> ResNet {
    network.map(&mut ReplaceTensors { filter, values: values.into_iter() })
}

/// The same network with parameters numbered in the module's order. Burn draws their numbers at random, and an optimiser's
/// state, which goes by them, would mean nothing to another process.
pub fn with_sequential_ids(network: ResNet) -> ResNet {
    network.map(&mut AssignIds { next: 0 })
}

impl TensorFilter {
    fn includes<const D: usize>(self, param: &Param<Tensor<D>>) -> bool {
        // Running statistics are visited as parameters that take no gradient.
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
        let values = self.values.next().expect("there are as many values as tensors");
        param.map(|tensor| {
            let new = values.reshape(tensor.dims());
            // Of a device without autodiff there is none.
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
