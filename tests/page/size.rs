//! The size of the worker, which visitors download before the first answer.

use anyhow::{Context, Result, ensure};
use brotli::enc::{BrotliEncoderParams, writer::CompressorWriter};
use std::fs;
use std::io::Write;
use tests::workspace;

/// Maximum size of the worker in bytes: its WebAssembly module and JavaScript.
const MAX_BYTES: usize = 1_500_000;
/// Maximum size of the worker in bytes, compressed by brotli with its default quality, 11.
const MAX_COMPRESSED_BYTES: usize = 600_000;

pub fn worker_is_within_its_limits() -> Result<()> {
    let folder = workspace::root().join("web/dist");
    let mut bytes = Vec::new();
    for name in ["worker.js", "worker_bg.wasm", "worker_loader.js"] {
        let path = folder.join(name);
        bytes.extend(fs::read(&path).with_context(|| format!("{}: build it with `make page`", path.display()))?);
    }
    let mut compressed = Vec::new();
    CompressorWriter::with_params(&mut compressed, 1 << 16, &BrotliEncoderParams::default()).write_all(&bytes)?;
    let sizes = format!("{} bytes, {} compressed", bytes.len(), compressed.len());
    println!("worker: {sizes}");
    ensure!(
        bytes.len() <= MAX_BYTES && compressed.len() <= MAX_COMPRESSED_BYTES,
        "the worker has {sizes}; at most {MAX_BYTES} and {MAX_COMPRESSED_BYTES} are allowed"
    );
    Ok(())
}
