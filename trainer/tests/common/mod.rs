//! Runs the trainer binary as a user would, on a few small generated photos.

// Every test binary uses only some of these functions.
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

/// Runs the trainer and returns its stdout; panics if it fails.
pub fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// Runs the trainer and returns its stderr; panics if it succeeds.
pub fn fail(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    let stderr = text(&stderr);
    assert!(!status.success(), "{arguments:?}: {}", text(&stdout));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    stderr
}

/// Encodes a BMP of 40x36 pixels with noise around a colour.
fn photo(colour: [f32; 3], seed: u64) -> Vec<u8> {
    const SIZE: u32 = 40 * 36 * 3;
    let mut file = b"BM".to_vec();
    let fields = [54 + SIZE, 0, 54, 40, 40, 36, 1 | 24 << 16, 0, SIZE, 0, 0, 0, 0];
    file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    let noise = Uniform::new(seed).take(SIZE as usize).enumerate();
    file.extend(noise.map(|(index, noise)| (colour[index % 3] + 60.0 * noise) as u8));
    file
}

/// Creates a folder with `photos` of red and green things, 12 training and 4 validation photos each, and a file that is not a
/// photo; and `start.safetensors`, a checkpoint with three other classes.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 12), ("val", 4)] {
        for (class, colour) in [("red_thing", [60.0, 60.0, 180.0]), ("green_thing", [60.0, 180.0, 60.0])] {
            let class_folder = folder.path().join("photos").join(split).join(class);
            fs::create_dir_all(&class_folder).unwrap();
            for index in 0..count {
                fs::write(class_folder.join(format!("{index}.bmp")), photo(colour, index)).unwrap();
            }
        }
    }
    fs::write(folder.path().join("photos/train/red_thing/broken.jpg"), "not a photo").unwrap();
    let start = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
    start.save(folder.path().join("start.safetensors")).unwrap();
    folder
}

/// Returns the arguments for training on the photos of [`folder`], by default on the CPU with a batch size of 8.
pub fn train_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let photos =
        ["--data", "photos", "--recipe", "finetune", "--checkpoint", "start.safetensors", "--image-size", "32"];
    let defaults = [["--batch-size", "8"], ["--device", "cpu"]];
    // --gpus conflicts with --device.
    let is_set = |flag: &str| more.contains(&flag) || (flag == "--device" && more.contains(&"--gpus"));
    let defaults = defaults.into_iter().filter(|[flag, _]| !is_set(flag));
    [&photos, defaults.flatten().collect::<Vec<_>>().as_slice(), more].concat()
}

/// Parses a file of JSON lines.
pub fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
