//! Any file of weights: a checkpoint of ours, somebody's safetensors, or what PyTorch saved; and the way back.

use anyhow::{Context, Result, bail};
use model::checkpoint::{Checkpoint, pth};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens by content, not by the name's ending: behind the length of its header, a safetensors file has a brace.
/// Errors name the file.
pub fn open(path: &Path) -> Result<Checkpoint> {
    let mut begin = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(9).read_to_end(&mut begin).with_context(|| path.display().to_string())?;
    let is_pytorch = begin.starts_with(b"PK") || begin.first() == Some(&0x80);
    match is_pytorch && begin.get(8) != Some(&b'{') {
        true => Ok(pth::import(path)?),
        false => Ok(Checkpoint::from_path(path)?),
    }
}

/// Writes `output`, which must be another file than `input`.
pub fn save(checkpoint: &Checkpoint, input: &Path, output: &Path) -> Result<()> {
    if let (Ok(from), Ok(to)) = (input.canonicalize(), output.canonicalize())
        && from == to
    {
        bail!("{} would be overwritten by what is made of it; name another file to write", input.display());
    }
    Ok(checkpoint.save(output)?)
}
