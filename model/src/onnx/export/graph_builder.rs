//! Nodes and initialisers of a graph that is being built.

use crate::checkpoint::{CheckpointError, Dtype};
use crate::onnx::messages::{AttributeProto, NodeProto, TensorProto, attribute_type, data_type};
use half::f16;

/// Nodes and initialisers in order. Each node writes one value, which has its name.
pub(super) struct GraphBuilder {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    half_precision: bool,
}

impl GraphBuilder {
    /// Creates an empty graph whose weights are fp16 if `half_precision`, and fp32 otherwise.
    pub(super) fn new(half_precision: bool) -> Self {
        GraphBuilder { nodes: Vec::new(), initializers: Vec::new(), half_precision }
    }

    pub(super) fn is_half_precision(&self) -> bool {
        self.half_precision
    }

    /// Adds a node, and returns the name of its output.
    pub(super) fn node(
        &mut self,
        op_type: &str,
        name: impl Into<String>,
        input: impl IntoIterator<Item = String>,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let name = name.into();
        let (input, output) = (input.into_iter().collect(), vec![name.clone()]);
        let op_type = op_type.to_owned();
        self.nodes.push(NodeProto { input, output, name: name.clone(), op_type, attribute, domain: String::new() });
        name
    }

    /// Adds an initialiser with weights of the network, and returns its name.
    ///
    /// # Errors
    /// Returns an error if the graph is half-precision and fp16 cannot represent a value.
    pub(super) fn weight(&mut self, name: String, shape: &[usize], values: &[f32]) -> Result<String, CheckpointError> {
        if !self.half_precision {
            return Ok(self.constant(name, shape, values));
        }
        // The comparison is written so that NaN counts as too large.
        if let Some(index) = values.iter().position(|value| !matches!(value.abs(), size if size <= f16::MAX.to_f32())) {
            return Err(CheckpointError::Unrepresentable { name, index, value: values[index], dtype: Dtype::F16 });
        }
        let bytes = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        Ok(self.initializer(name, shape, data_type::FLOAT16, bytes))
    }

    /// Adds an f32 initialiser, and returns its name.
    pub(super) fn constant(&mut self, name: impl Into<String>, shape: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name.into(), shape, data_type::FLOAT, bytes)
    }

    fn initializer(&mut self, name: String, shape: &[usize], data_type: i32, bytes: Vec<u8>) -> String {
        let dims = shape.iter().map(|side| *side as i64).collect();
        let raw_data = Some(bytes);
        self.initializers.push(TensorProto { dims, data_type, name: name.clone(), raw_data, ..TensorProto::default() });
        name
    }

    /// Returns nodes and initialisers.
    pub(super) fn finish(self) -> (Vec<NodeProto>, Vec<TensorProto>) {
        (self.nodes, self.initializers)
    }
}

pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), r#type: attribute_type::INT, ..Default::default() }
}

pub(super) fn integers(name: &str, values: impl Into<Vec<i64>>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values.into(), r#type: attribute_type::INTS, ..Default::default() }
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: Some(value), r#type: attribute_type::FLOAT, ..Default::default() }
}
