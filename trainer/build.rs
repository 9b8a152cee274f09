//! Extracts the names of ImageNet's classes from the bundled checkpoint, so that there is only one list of them.

use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::{env, fs};

const CHECKPOINT: &str = "../checkpoints/resnet50_v1-imagenet.safetensors";

/// Writes `imagenet.txt`, with the identifier and the readable name of one class per line, separated by a tab.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={CHECKPOINT}");
    let metadata = metadata().unwrap_or_else(|error| panic!("{CHECKPOINT}: {error}"));
    let names = |key: &str| -> Vec<String> {
        serde_json::from_value(metadata[key].clone()).unwrap_or_else(|error| panic!("{CHECKPOINT}: {key}: {error}"))
    };
    let (classes, labels) = (names("classes"), names("labels"));
    let lines: Vec<String> = classes.iter().zip(&labels).map(|(class, label)| format!("{class}\t{label}\n")).collect();
    let folder = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&folder).join("imagenet.txt"), lines.concat()).expect("OUT_DIR is writable");
}

/// Reads the metadata under `shortcut` in the header of the checkpoint. Build scripts cannot use the crate `model`.
fn metadata() -> Result<Value, Box<dyn std::error::Error>> {
    let mut file = File::open(CHECKPOINT)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
    let header: Value = serde_json::from_slice(&header)?;
    let document = header["__metadata__"]["shortcut"].as_str().ok_or("no metadata under `shortcut`")?;
    Ok(serde_json::from_str(document)?)
}
