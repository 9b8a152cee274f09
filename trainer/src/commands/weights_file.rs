//! Reading and writing of files of weights: checkpoints of this project, other safetensors files, and PyTorch's files.

use anyhow::{Context, Result, bail};
use model::checkpoint::{Checkpoint, pth};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens a file of weights. The format is detected from the first bytes: in a safetensors file, an opening brace
/// follows the 8 bytes of the header's length.
///
/// # Errors
/// Returns an error that names the file if it has neither format, or does not contain a supported network.
pub fn open(path: &Path) -> Result<Checkpoint> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(9).read_to_end(&mut start).with_context(|| path.display().to_string())?;
    let may_be_pytorch = start.starts_with(b"PK") || start.first() == Some(&0x80);
    match may_be_pytorch && start.get(8) != Some(&b'{') {
        true => Ok(pth::import(path)?),
        false => Ok(Checkpoint::from_path(path)?),
    }
}

/// Saves a checkpoint that was made from `input`.
///
/// # Errors
/// Returns an error if `output` is the same file as `input`, or if it cannot be written.
pub fn save(checkpoint: &Checkpoint, input: &Path, output: &Path) -> Result<()> {
    if let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        bail!("cannot overwrite the input {}; choose another file for the output", input.display());
    }
    Ok(checkpoint.save(output)?)
}
