//! Number formats of stored checkpoints: conversion, per-tensor overrides, and sizes.

use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use model::architecture::TensorKind;
use model::checkpoint::{Checkpoint, Dtype, TensorEntry};

/// A matrix with a format of its own.
#[derive(Clone, Debug, PartialEq)]
struct DtypeOverride {
    tensor: String,
    dtype: Dtype,
}

#[derive(Args)]
pub struct DtypeOverrides {
    /// Format of a single matrix, such as conv1.weight=f16; may be repeated
    #[arg(long = "tensor", value_name = "NAME=DTYPE", value_parser = parse_override)]
    overrides: Vec<DtypeOverride>,
}

/// Returns a parser of `f32`, `f16` and `i8`, which also makes help and completions list them.
pub fn dtype_parser() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(Dtype::ALL.map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

fn parse_override(text: &str) -> Result<DtypeOverride, String> {
    let (tensor, dtype) = text.split_once('=').ok_or("expected NAME=DTYPE, such as conv1.weight=f16")?;
    Ok(DtypeOverride { tensor: tensor.to_owned(), dtype: dtype.parse().map_err(|error| format!("{error}"))? })
}

/// Converts the matrices of a checkpoint to `dtype`, or keeps their formats if it is `None`, and applies the overrides.
///
/// # Errors
/// Returns an error if an override names no matrix, or if values do not fit the format.
pub fn convert(checkpoint: &Checkpoint, dtype: Option<Dtype>, overrides: &DtypeOverrides) -> Result<Checkpoint> {
    let DtypeOverrides { overrides } = overrides;
    let tensors = checkpoint.architecture().tensors();
    for DtypeOverride { tensor, .. } in overrides {
        if !tensors.iter().any(|spec| spec.kind == TensorKind::Matrix && spec.name == *tensor) {
            bail!("--tensor: {} has no matrix {tensor:?}", checkpoint.architecture());
        }
    }
    let current = |name: &str| checkpoint.entries().find(|entry| entry.name == name).map(|entry| entry.dtype);
    Ok(checkpoint.convert_each(|spec| {
        let last = overrides.iter().rev().find(|candidate| candidate.tensor == spec.name);
        last.map(|last| last.dtype).or(dtype).or(current(&spec.name)).unwrap_or(Dtype::F32)
    })?)
}

/// Returns the number of tensors and of bytes of each format that occurs.
pub fn sizes(checkpoint: &Checkpoint) -> Vec<(Dtype, usize, usize)> {
    let count = |dtype: Dtype| {
        let entries = checkpoint.entries().filter(|entry| entry.dtype == dtype);
        let (count, bytes) = entries.fold((0, 0), |(count, sum), TensorEntry { bytes, .. }| (count + 1, sum + bytes));
        (dtype, count, bytes)
    };
    Dtype::ALL.into_iter().map(count).filter(|(_, count, _)| *count > 0).collect()
}

/// Describes a checkpoint in one line: `resnet18, 10 classes: 21 i8, 81 f32 tensors, 11.3 MB`.
pub fn summary(checkpoint: &Checkpoint) -> String {
    let sizes = sizes(checkpoint);
    let bytes: usize = sizes.iter().map(|(_, _, bytes)| bytes).sum();
    let tensors: Vec<String> = sizes.iter().rev().map(|(dtype, count, _)| format!("{count} {dtype}")).collect();
    let architecture = checkpoint.architecture();
    let (classes, tensors) = (architecture.classes, tensors.join(", "));
    format!("{architecture}, {classes} classes: {tensors} tensors, {}", ByteSize(bytes as u64).display().si())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_overrides() {
        let expected = DtypeOverride { tensor: "conv1.weight".to_owned(), dtype: Dtype::F16 };
        assert_eq!(parse_override("conv1.weight=f16"), Ok(expected));
        assert!(parse_override("conv1.weight").unwrap_err().contains("conv1.weight=f16"));
        assert!(parse_override("conv1.weight=f8").unwrap_err().contains("f32, f16 or i8"));
    }
}
