//! Functions for tests that run the trainer binary on a few small generated photos.

// Each test binary uses only some of these functions.
#![allow(dead_code)]

use model::architecture::Architecture;
use model::random::{self, Uniform};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Returns a command that runs the trainer in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).args(arguments);
    command
}

/// Converts output of the trainer to a string.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the trainer in `folder` and returns its stdout.
///
/// # Panics
/// Panics if the exit status is not 0.
pub fn expect_success(folder: &Path, arguments: &[&str]) -> String {
    expect_success_with_stderr(folder, arguments).0
}

/// Runs the trainer in `folder` and returns its stdout and stderr.
///
/// # Panics
/// Panics if the exit status is not 0.
pub fn expect_success_with_stderr(folder: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(status.success(), "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// Runs the trainer in `folder` and returns its stderr.
///
/// # Panics
/// Panics if the exit status is 0, or if the trainer panicked.
pub fn expect_failure(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    let stderr = text(&stderr);
    assert!(!status.success(), "{arguments:?}: {}", text(&stdout));
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    stderr
}

/// Encodes a 24-bit BMP of 40x36 pixels: uniform noise around a colour, which is given as blue, green and red.
fn photo(colour: [f32; 3], seed: u64) -> Vec<u8> {
    const SIZE: u32 = 40 * 36 * 3;
    let mut file = b"BM".to_vec();
    let fields = [54 + SIZE, 0, 54, 40, 40, 36, 1 | 24 << 16, 0, SIZE, 0, 0, 0, 0];
    file.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    let noise = Uniform::new(seed).take(SIZE as usize).enumerate();
    file.extend(noise.map(|(index, noise)| (colour[index % 3] + 60.0 * noise) as u8));
    file
}

/// Creates a folder with `photos` and `start.safetensors`.
///
/// `photos` has the classes `red_thing` and `green_thing`, each with 12 training and 4 validation photos. `red_thing` also
/// has a training file `broken.jpg` that is not a photo. `start.safetensors` is a ResNet-18 with random weights and three
/// other classes.
pub fn test_folder() -> tempfile::TempDir {
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

/// Returns arguments for training on the photos of [`test_folder`], followed by `more`. Unless `more` sets them, the
/// batch size is 8 and the device is the CPU.
pub fn train_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let photos =
        ["--data", "photos", "--recipe", "finetune", "--checkpoint", "start.safetensors", "--image-size", "32"];
    let defaults = [["--batch-size", "8"], ["--device", "cpu"]];
    // The flags --gpus and --device are mutually exclusive.
    let is_set = |flag: &str| more.contains(&flag) || (flag == "--device" && more.contains(&"--gpus"));
    let defaults = defaults.into_iter().filter(|[flag, _]| !is_set(flag));
    [&photos, defaults.flatten().collect::<Vec<_>>().as_slice(), more].concat()
}

/// Parses a file of JSON lines.
pub fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
