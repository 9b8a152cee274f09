//! Checks the licences of all packages of the workspace's lock file, on all platforms and with all features, against
//! `deny.toml`. It works offline, but cargo needs the packages: run `cargo fetch --locked` first.
//!
//! `cargo deny check licenses` reads the same file and additionally recognises the text of licence files. Compiling it
//! takes longer than all other checks of `make lint` together. The lock files of `fuzz` and `tests/peers`, whose
//! programs are not distributed, are not checked.

mod policy;

use anyhow::{Context, Result, ensure};
use policy::{Package, Policy};
use serde::Deserialize;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

/// The output of `cargo metadata`, as far as it is used here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

fn main() -> Result<ExitCode> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("this package is not in a workspace")?;
    let policy = fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("cannot parse deny.toml")?;
    let packages = packages(root)?;
    let mut rejected = 0;
    for package in &packages {
        if let Err(reason) = policy.check(package) {
            eprintln!("{} {}: {reason}", package.name, package.version);
            rejected += 1;
        }
    }
    println!("licences of {} packages accepted, {rejected} rejected", packages.len() - rejected);
    Ok(if rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the packages of the workspace in the folder `root`, and all their dependencies.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed; run `cargo fetch --locked` first: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("unexpected output of cargo metadata")?;
    Ok(metadata.packages)
}
