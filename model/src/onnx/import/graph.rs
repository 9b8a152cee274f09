//! The nodes of a graph by the values that they read and write.

use super::OnnxError;
use crate::onnx::messages::{AttributeProto, GraphProto, NodeProto, TensorProto, data_type};
use std::collections::HashMap;

/// A graph in which nodes that change no values (`Identity`, `Dropout`, and `Cast` between floats) are resolved.
pub(super) struct Graph<'a> {
    proto: &'a GraphProto,
    initialisers: HashMap<&'a str, &'a TensorProto>,
    /// The value that a node without effect copies, by its output.
    aliases: HashMap<&'a str, &'a str>,
    /// Nodes that read a value.
    consumers: HashMap<&'a str, Vec<&'a NodeProto>>,
}

impl<'a> Graph<'a> {
    /// Indexes a graph.
    ///
    /// # Errors
    /// Returns an error if a value is written twice.
    pub(super) fn new(proto: &'a GraphProto) -> Result<Self, OnnxError> {
        let mut graph =
            Graph { proto, initialisers: HashMap::new(), aliases: HashMap::new(), consumers: HashMap::new() };
        let mut written = HashMap::new();
        let mut write = |name: &'a str| match written.insert(name, ()) {
            None => Ok(()),
            Some(()) => Err(OnnxError::DuplicateValue { name: name.to_owned() }),
        };
        for tensor in &proto.initializer {
            write(&tensor.name)?;
            graph.initialisers.insert(&tensor.name, tensor);
        }
        for node in &proto.node {
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                write(output)?;
            }
            let (Some(output), input) = (node.output.first(), node.input.first()) else { continue };
            if let (true, Some(input)) = (has_no_effect(node), input) {
                let source = graph.resolve(input);
                graph.aliases.insert(output, source);
            } else if let ("Constant", Some(tensor)) = (node.op_type.as_str(), constant(node)) {
                graph.initialisers.insert(output, tensor);
            } else {
                for input in node.input.iter().filter(|input| !input.is_empty()) {
                    let source = graph.resolve(input);
                    graph.consumers.entry(source).or_default().push(node);
                }
            }
        }
        Ok(graph)
    }

    /// Returns the value of which `name` is a copy. Nodes are in topological order, so that a copy is known before it is
    /// read.
    pub(super) fn resolve(&self, name: &'a str) -> &'a str {
        self.aliases.get(name).copied().unwrap_or(name)
    }

    /// Returns the input of the network.
    ///
    /// # Errors
    /// Returns an error if the graph does not have exactly one input that is not an initialiser.
    pub(super) fn input(&self) -> Result<&'a str, OnnxError> {
        let names = self.proto.input.iter().map(|input| input.name.as_str());
        let inputs: Vec<_> = names.filter(|name| !self.initialisers.contains_key(name)).collect();
        match inputs[..] {
            [input] => Ok(input),
            _ => Err(OnnxError::InputCount { found: inputs.len() }),
        }
    }

    /// Returns whether a value is an output of the graph.
    pub(super) fn is_output(&self, value: &str) -> bool {
        self.proto.output.iter().any(|output| output.name == value || self.aliases.get(&*output.name) == Some(&value))
    }

    /// Returns the nodes that read a value.
    pub(super) fn consumers(&self, value: &str) -> &[&'a NodeProto] {
        self.consumers.get(value).map_or(&[], Vec::as_slice)
    }

    /// Returns the only node that reads a value, which must be an operation of this type.
    ///
    /// # Errors
    /// Returns an error that says what is `expected` otherwise.
    pub(super) fn consumer(
        &self,
        value: &str,
        op_types: &[&str],
        expected: &'static str,
    ) -> Result<&'a NodeProto, OnnxError> {
        match self.consumers(value) {
            [node] if op_types.contains(&op_type(node)) => Ok(node),
            nodes => Err(unexpected_consumers(value, nodes, expected)),
        }
    }

    /// Returns the initialiser that is input `index` of a node.
    ///
    /// # Errors
    /// Returns an error if the input is missing, or computed by another node.
    pub(super) fn initialiser(&self, node: &'a NodeProto, index: usize) -> Result<&'a TensorProto, OnnxError> {
        let name = node.input.get(index).map(|name| self.resolve(name));
        name.and_then(|name| self.initialisers.get(name).copied())
            .ok_or_else(|| node_error(node, format!("needs an initialiser as input {index}, as weights are constants")))
    }
}

/// Returns the type of a node, or a text that is no type for nodes of other operator sets.
pub(super) fn op_type(node: &NodeProto) -> &str {
    match node.domain.as_str() {
        "" | "ai.onnx" => &node.op_type,
        domain => domain,
    }
}

/// Returns whether a node has an optional input; the name of an absent one is empty.
pub(super) fn has_input(node: &NodeProto, index: usize) -> bool {
    node.input.get(index).is_some_and(|name| !name.is_empty())
}

/// Returns the attribute of a node.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// Returns the value of an integer attribute, or a default.
pub(super) fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).and_then(|attribute| attribute.i).unwrap_or(default)
}

pub(super) fn node_error(node: &NodeProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::Node { node: node.name.clone(), op_type: op_type(node).to_owned(), reason: reason.into() }
}

pub(super) fn unexpected_consumers(value: &str, nodes: &[&NodeProto], expected: &'static str) -> OnnxError {
    const SHOWN: usize = 4;
    let shown: Vec<_> = nodes.iter().take(SHOWN).map(|node| format!("{} ({})", node.name, op_type(node))).collect();
    let more = if nodes.len() > SHOWN { ", ..." } else { "" };
    let found = if nodes.is_empty() { "no node".to_owned() } else { format!("{}{more}", shown.join(", ")) };
    OnnxError::Consumers { value: value.to_owned(), found, expected }
}

fn has_no_effect(node: &NodeProto) -> bool {
    const FLOATS: [i32; 4] = [data_type::FLOAT, data_type::FLOAT16, data_type::DOUBLE, data_type::BFLOAT16];
    match op_type(node) {
        "Identity" => true,
        // A third input would set the training mode.
        "Dropout" => node.input.len() < 3,
        "Cast" => FLOATS.iter().any(|float| integer(node, "to", 0) == i64::from(*float)),
        _ => false,
    }
}

fn constant(node: &NodeProto) -> Option<&TensorProto> {
    attribute(node, "value").and_then(|attribute| attribute.t.as_ref())
}
