//! Reading and writing of files of weights: checkpoints of this project (also the bundled ones), other safetensors files,
//! PyTorch's files, and ONNX files.

use anyhow::{Context, Result, bail};
use checkpoints::CheckpointSource;
use model::checkpoint::{Checkpoint, pth};
use model::onnx;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Opens a checkpoint, or a safetensors file with torchvision's tensor names.
///
/// # Errors
/// Returns an error that names the file if it cannot be read or is no checkpoint. If it does not exist, the error lists
/// the bundled checkpoints.
pub fn open_checkpoint(source: &CheckpointSource) -> Result<Checkpoint> {
    source.check_exists().with_context(|| source.to_string())?;
    Ok(match source {
        CheckpointSource::File(path) => Checkpoint::from_path(path)?,
        CheckpointSource::Bundled(bundled) => Checkpoint::from_bytes(bundled.bytes())?,
    })
}

/// Returns the size of the file of a checkpoint, in bytes.
///
/// # Errors
/// Returns an error that names the file if its size cannot be read.
pub fn file_bytes(source: &CheckpointSource) -> Result<u64> {
    match source {
        CheckpointSource::File(path) => Ok(path.metadata().with_context(|| path.display().to_string())?.len()),
        CheckpointSource::Bundled(bundled) => Ok(bundled.bytes().len() as u64),
    }
}

/// Returns the SHA-256 of the file of a checkpoint, in hexadecimal.
///
/// # Errors
/// Returns an error that names the file if it cannot be read.
pub fn sha256(source: &CheckpointSource) -> Result<String> {
    let mut hash = Sha256::new();
    match source {
        CheckpointSource::File(path) => {
            let context = || format!("cannot read {}", path.display());
            let mut file = BufReader::with_capacity(1 << 20, File::open(path).with_context(context)?);
            loop {
                let bytes = file.fill_buf().with_context(context)?;
                let length = bytes.len();
                if length == 0 {
                    break;
                }
                hash.update(bytes);
                file.consume(length);
            }
        }
        CheckpointSource::Bundled(bundled) => hash.update(bundled.bytes()),
    }
    Ok(hex::encode(hash.finalize()))
}

/// Opens weights in any supported format, which is detected from the first bytes: in a safetensors file, an opening brace
/// follows the 8 bytes of the header's length.
///
/// # Errors
/// Returns an error that names the file if it has no supported format, or does not contain a supported network.
pub fn open_weights(source: &CheckpointSource) -> Result<Checkpoint> {
    if let CheckpointSource::File(path) = source
        && path.exists()
    {
        let start = first_bytes(path)?;
        if start.get(8) != Some(&b'{') {
            match start[..] {
                [b'P', b'K', ..] | [0x80, ..] => return Ok(pth::import(path)?),
                // The first field of an ONNX file is its version.
                [0x08, ..] => return Ok(onnx::import(path)?),
                _ => {}
            }
        }
    }
    open_checkpoint(source)
}

fn first_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(9).read_to_end(&mut start).with_context(|| path.display().to_string())?;
    Ok(start)
}

/// Checks that a checkpoint made from `input` can be saved as `output`.
///
/// # Errors
/// Returns an error if `output` is the same file as `input`, or if its folder does not exist.
pub fn check_output(input: &CheckpointSource, output: &Path) -> Result<()> {
    if let CheckpointSource::File(input) = input
        && let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        bail!("cannot overwrite the input {}; choose another file for the output", input.display());
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("cannot write {}: there is no folder {}", output.display(), folder.display());
    }
    Ok(())
}

/// Saves a checkpoint that was made from `input`.
///
/// # Errors
/// Returns the errors of [`check_output`], or an error if `output` cannot be written.
pub fn save(checkpoint: &Checkpoint, input: &CheckpointSource, output: &Path) -> Result<()> {
    check_output(input, output)?;
    Ok(checkpoint.save(output)?)
}
