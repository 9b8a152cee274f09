//! How the numbers of a file are stored: all of them, and exceptions.

use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use model::architecture::TensorKind;
use model::checkpoint::{Checkpoint, Dtype, TensorEntry};

/// A matrix that is stored otherwise than the rest.
#[derive(Clone, Debug, PartialEq)]
struct Exception {
    tensor: String,
    dtype: Dtype,
}

#[derive(Args)]
pub struct Exceptions {
    /// Store one matrix otherwise, e.g. conv1.weight=f16; may be repeated
    #[arg(long = "tensor", value_name = "NAME=DTYPE", value_parser = parse_exception)]
    exceptions: Vec<Exception>,
}

/// `f32`, `f16`, `i8`, offered in help and completions.
pub fn dtype_parser() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(Dtype::ALL.map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

fn parse_exception(text: &str) -> Result<Exception, String> {
    let (tensor, dtype) = text.split_once('=').ok_or("a name and a format are wanted: conv1.weight=f16")?;
    Ok(Exception { tensor: tensor.to_owned(), dtype: dtype.parse().map_err(|error| format!("{error}"))? })
}

/// The checkpoint with its matrices stored as `dtype` (`None`: each as it is) but for the exceptions.
pub fn convert(checkpoint: &Checkpoint, dtype: Option<Dtype>, exceptions: &Exceptions) -> Result<Checkpoint> {
    let Exceptions { exceptions } = exceptions;
    let tensors = checkpoint.architecture().tensors();
    for Exception { tensor, .. } in exceptions {
        if !tensors.iter().any(|spec| spec.kind == TensorKind::Matrix && spec.name == *tensor) {
            bail!("--tensor: {} has no matrix {tensor:?}", checkpoint.architecture());
        }
    }
    let present = |name: &str| checkpoint.entries().find(|entry| entry.name == name).map(|entry| entry.dtype);
    Ok(checkpoint.convert_each(|spec| {
        let exception = exceptions.iter().rev().find(|exception| exception.tensor == spec.name);
        exception.map(|exception| exception.dtype).or(dtype).or(present(&spec.name)).unwrap_or(Dtype::F32)
    })?)
}

/// Tensors and bytes of each format that occurs.
pub fn sizes(checkpoint: &Checkpoint) -> Vec<(Dtype, usize, usize)> {
    let count = |dtype: Dtype| {
        let entries = checkpoint.entries().filter(|entry| entry.dtype == dtype);
        let (count, bytes) = entries.fold((0, 0), |(count, sum), TensorEntry { bytes, .. }| (count + 1, sum + bytes));
        (dtype, count, bytes)
    };
    Dtype::ALL.into_iter().map(count).filter(|(_, count, _)| *count > 0).collect()
}

/// `resnet18, 10 classes: 21 i8, 81 f32 tensors, 11.3 MB`
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
    fn exceptions_are_a_name_and_a_format() {
        let expected = Exception { tensor: "conv1.weight".to_owned(), dtype: Dtype::F16 };
        assert_eq!(parse_exception("conv1.weight=f16"), Ok(expected));
        assert!(parse_exception("conv1.weight").unwrap_err().contains("conv1.weight=f16"));
        assert!(parse_exception("conv1.weight=f8").unwrap_err().contains("f32, f16, i8"));
    }
}
