//! The trainer as a user starts it, on a few small photos made here.

// Each test takes what it needs.
#![allow(dead_code)]

use model::architecture::Architecture;
use model::random::{self, Uniform};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).args(arguments);
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it wrote to stdout, or a panic with all that it said.
pub fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// What it says on stderr when it fails.
pub fn fail(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    let stderr = text(&stderr);
    assert!(!status.success(), "{arguments:?}: {}", text(&stdout));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    stderr
}

/// A BMP of 40x36 in noise around a colour.
fn photo(colour: [f32; 3], seed: u64) -> Vec<u8> {
    const SIZE: u32 = 40 * 36 * 3;
    let mut file = b"BM".to_vec();
    let fields = [54 + SIZE, 0, 54, 40, 40, 36, 1 | 24 << 16, 0, SIZE, 0, 0, 0, 0];
    file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    let noise = Uniform::new(seed).take(SIZE as usize).enumerate();
    file.extend(noise.map(|(index, noise)| (colour[index % 3] + 60.0 * noise) as u8));
    file
}

/// Red and green things in `photos`, 12 of each to train on and 4 to validate with, and a file that is no photo; weights of
/// a network that knows three other classes in `start.safetensors`.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 12), ("val", 4)] {
        for (class, colour) in [("red_thing", [60.0, 60.0, 180.0]), ("green_thing", [60.0, 180.0, 60.0])] {
            let place = folder.path().join("photos").join(split).join(class);
            fs::create_dir_all(&place).unwrap();
            for index in 0..count {
                fs::write(place.join(format!("{index}.bmp")), photo(colour, index)).unwrap();
            }
        }
    }
    fs::write(folder.path().join("photos/train/red_thing/broken.jpg"), "no photo").unwrap();
    let start = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
    start.save(folder.path().join("start.safetensors")).unwrap();
    folder
}

/// Over the folder's photos, and in steps of eight on the CPU if nothing else is said.
pub fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let photos =
        ["--data", "photos", "--recipe", "finetune", "--checkpoint", "start.safetensors", "--image-size", "32"];
    let defaults = [["--batch-size", "8"], ["--device", "cpu"]];
    // A GPU is a device too.
    let said = |flag: &str| more.contains(&flag) || (flag == "--device" && more.contains(&"--gpus"));
    let defaults = defaults.into_iter().filter(|[flag, _]| !said(flag));
    [&photos, defaults.flatten().collect::<Vec<_>>().as_slice(), more].concat()
}

pub fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
