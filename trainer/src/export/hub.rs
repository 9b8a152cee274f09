//! Folders that can be uploaded to Hugging Face as they are.

use super::card::{CARD, ONNX, TORCHSCRIPT, card, checkpoint_name};
use super::{Format, write_timm};
use anyhow::{Context, Result};
use model::checkpoint::{Checkpoint, Dtype, write_atomically};
use model::onnx::{self, OnnxOptions};
use model::torchscript;
use std::path::Path;

/// Writes the card, the checkpoint, ONNX and TorchScript files, and timm's configuration if timm has the network, to an
/// existing folder. `name` is the name of the model.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_hub(name: &str, checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let architecture = checkpoint.architecture();
    if Format::Timm.check(&architecture).is_ok() {
        // timm does not read int8.
        let is_float = checkpoint.entries().all(|entry| entry.dtype != Dtype::I8);
        write_timm(&if is_float { checkpoint.clone() } else { checkpoint.convert(Dtype::F32)? }, folder)?;
    } else {
        checkpoint.save(folder.join(checkpoint_name(&architecture)))?;
    }
    write(folder, ONNX, &onnx::export(checkpoint, &OnnxOptions::default())?)?;
    write(folder, TORCHSCRIPT, &torchscript::export(checkpoint)?)?;
    write_card(name, checkpoint, folder)
}

/// Writes the model card to an existing folder.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_card(name: &str, checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    write(folder, CARD, card(name, checkpoint.metadata()).as_bytes())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    write_atomically(&path, bytes).with_context(|| path.display().to_string())
}
