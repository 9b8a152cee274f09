//! Paths of the workspace's files, and of the programs that were built together with this test.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the smaller bundled model, which has ten classes.
pub const SMALL_MODEL: &str = "resnet18-imagenette";

/// Returns the folder of the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package of the tests is a folder of the workspace")
}

/// Reads a text file of the workspace.
pub fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// Returns the names of the files in a folder of the workspace.
pub fn file_names(folder: &str) -> Result<BTreeSet<String>> {
    let entries = root().join(folder).read_dir().with_context(|| format!("cannot read {folder}"))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Returns the path of a program of the workspace, built with the profile of this test.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = profile()?.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(path.is_file(), "{} does not exist: build it with `make` or `cargo build --release`", path.display());
    Ok(path)
}

/// Returns the path of the wasm module of the crate `simd128`.
pub fn module() -> Result<PathBuf> {
    let path = profile()?.with_file_name("wasm32-unknown-unknown").join("web/examples/module.wasm");
    ensure!(path.is_file(), "{} does not exist: build it with `make kernels`", path.display());
    Ok(path)
}

/// Returns the folder of the programs, `target/<profile>`.
fn profile() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of this test is unknown")?;
    // target/<profile>/deps/<test>-<hash>
    Ok(test.ancestors().nth(2).context("this test is not in a target directory")?.to_owned())
}

/// Returns the path of a bundled photo.
pub fn sample(name: &str) -> PathBuf {
    root().join("samples").join(name)
}

/// Returns the path of a bundled checkpoint.
pub fn checkpoint(model: &str) -> PathBuf {
    root().join(format!("checkpoints/{model}.safetensors"))
}
