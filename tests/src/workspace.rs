//! Where the workspace keeps what tests need: its files, and the programs that were built beside this test.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in a folder of the workspace")
}

/// A program of the workspace, of the profile in which this test was built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = profile()?.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(path.is_file(), "{} is not there: build it first, with `make` or `cargo build --release`", path.display());
    Ok(path)
}

/// The module of the crate `simd128`.
pub fn module() -> Result<PathBuf> {
    let path = profile()?.with_file_name("wasm32-unknown-unknown").join("web/examples/module.wasm");
    ensure!(path.is_file(), "{} is not there: `make kernels` builds it", path.display());
    Ok(path)
}

/// `target/<profile>`
fn profile() -> Result<PathBuf> {
    let test = std::env::current_exe().context("this test does not know its own path")?;
    // target/<profile>/deps/<test>-<hash>
    Ok(test.ancestors().nth(2).context("this test does not lie in a target directory")?.to_owned())
}

/// One of the bundled photos, by file name.
pub fn sample(name: &str) -> PathBuf {
    root().join("samples").join(name)
}
