//! `trainer pack` and `trainer doctor` on a few small generated photos: shards, reports and error messages.

mod common;

use common::{command, expect_success, expect_success_with_stderr, text};
use model::preprocess::{Limits, Photo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Output;

/// Runs the trainer in `folder` and returns its stdout and stderr.
///
/// # Panics
/// Panics if the exit status is not 1, or if the trainer panicked.
fn expect_failure(folder: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    assert!(status.code() == Some(1) && !text(&stderr).contains("panicked"), "{arguments:?}: {}", text(&stderr));
    (text(&stdout), text(&stderr))
}

/// Creates a photo with a horizontal gradient of blue; red and green depend on `seed`.
fn photo(width: u32, height: u32, seed: u8) -> Photo {
    let pixel = |x: u32| [seed.wrapping_mul(37), seed.wrapping_mul(91), (x * 255 / width) as u8, 255];
    let rgba: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(pixel)).collect();
    Photo::from_rgba(width, height, &rgba).unwrap()
}

/// Writes a file, and creates its parent folders.
fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Creates a folder with `photos` of ants and bees, as JPEG and PNG files.
///
/// There are six ants and two bees for training, and one of each for validation. The first ant and the second bee have
/// a short side above 32 pixels, the first bee is smaller than that, and the training file `broken.jpg` is not a photo.
fn folder_with_photos() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "photos/train/ant/0.jpg", &photo(90, 60, 0).to_jpeg(95).unwrap());
    for seed in 1..6 {
        write(root, &format!("photos/train/ant/{seed}.jpg"), &photo(40, 32, seed).to_jpeg(95).unwrap());
    }
    write(root, "photos/train/bee/0.png", &photo(30, 20, 10).to_png());
    write(root, "photos/train/bee/1.png", &photo(64, 96, 11).to_png());
    write(root, "photos/train/bee/broken.jpg", b"not a photo");
    write(root, "photos/val/ant/0.jpg", &photo(40, 32, 20).to_jpeg(95).unwrap());
    write(root, "photos/val/bee/0.jpg", &photo(40, 32, 21).to_jpeg(95).unwrap());
    folder
}

/// Returns the names and contents of the members of a shard, in order.
fn members(shard: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(File::open(shard).unwrap());
    let entry = |entry: std::io::Result<tar::Entry<File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(entry).collect()
}

#[test]
fn pack_resizes_shuffles_and_is_deterministic() {
    let folder = folder_with_photos();
    let root = folder.path();
    let pack = ["pack", "--data", "photos", "--short-side", "32", "--shard-size", "5", "--output"];
    let (stdout, stderr) = expect_success_with_stderr(root, &[&pack[..], &["shards"]].concat());
    assert!(stdout.starts_with("train: 8 photos in 2 shards, "), "{stdout}");
    assert!(stdout.contains("(6 copied unchanged, 1 skipped)\nval: 2 photos in 1 shards"), "{stdout}");
    assert!(stderr.contains("skipped photos/train/bee/broken.jpg: not a photo"), "{stderr}");

    let mut names: Vec<_> =
        fs::read_dir(root.join("shards")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["classes.txt", "train-000000.tar", "train-000001.tar", "val-000000.tar"]);
    assert_eq!(fs::read_to_string(root.join("shards/classes.txt")).unwrap(), "ant\nbee\n");
    let shards = ["shards/train-000000.tar", "shards/train-000001.tar"].map(|shard| members(&root.join(shard)));
    assert_eq!(shards.each_ref().map(Vec::len), [10, 6]);
    let all: Vec<_> = shards.concat();
    let mut classes = Vec::new();
    let mut sizes = BTreeMap::new();
    for (index, pair) in all.chunks(2).enumerate() {
        let [(name, bytes), (class_name, class)] = pair else { panic!("{pair:?}") };
        let (key, extension) = name.split_once('.').unwrap();
        assert_eq!((key, &**class_name), (&*format!("{index:08}"), &*format!("{index:08}.cls")));
        classes.push(text(class));
        let photo = Photo::decode(bytes, &Limits::default()).unwrap();
        *sizes.entry((photo.width(), photo.height(), extension.to_owned())).or_insert(0) += 1;
    }
    assert!(!classes.is_sorted(), "{classes:?}");
    let jpg = |width, height| (width, height, "jpg".to_owned());
    let expected = [(jpg(48, 32), 1), (jpg(40, 32), 5), ((30, 20, "png".to_owned()), 1), (jpg(32, 48), 1)];
    assert_eq!(sizes, BTreeMap::from(expected));
    let small = fs::read(root.join("photos/train/ant/3.jpg")).unwrap();
    assert!(all.iter().any(|(_, bytes)| *bytes == small), "a JPEG that is small enough is copied unchanged");

    expect_success(root, &[&pack[..], &["again"]].concat());
    expect_success(root, &[&pack[..], &["other", "--seed", "1"]].concat());
    let read = |name: &str| fs::read(root.join(name)).unwrap();
    assert!(read("again/train-000000.tar") == read("shards/train-000000.tar"), "equal seeds give identical shards");
    assert!(read("other/train-000000.tar") != read("shards/train-000000.tar"), "another seed gives another order");

    let train = ["train", "--data", "shards", "--recipe", "tutorial", "--set", "epochs=1", "--batch-size", "4"];
    let stdout = expect_success(root, &[&train[..], &["--image-size", "32", "--output", "run"]].concat());
    assert!(stdout.contains("2 classes, 8 training and 2 validation photos"), "{stdout}");
    let stdout = expect_success(root, &["evaluate", "--checkpoint", "run/last.safetensors", "--data", "shards"]);
    assert!(stdout.contains("; 2 photos, 0 skipped"), "{stdout}");
}

#[test]
fn pack_reports_errors_and_leaves_no_files() {
    let folder = folder_with_photos();
    let root = folder.path();
    let pack = ["pack", "--data", "photos", "--output", "shards"];
    for name in ["0.png", "1.png"] {
        write(root, &format!("photos/train/bee/{name}"), b"not a photo");
    }
    let (_, stderr) = expect_failure(root, &pack);
    assert!(stderr.contains("error: none of the photos of bee could be read"), "{stderr}");
    assert_eq!(fs::read_dir(root.join("shards")).unwrap().count(), 0, "no files are left");
    fs::create_dir_all(root.join("shards/more")).unwrap();
    assert!(expect_failure(root, &pack).1.contains("shards is not empty"));
}

#[test]
fn doctor_finds_problems_that_would_harm_training() {
    let folder = folder_with_photos();
    let root = folder.path();
    let read = |name: &str| fs::read(root.join(name)).unwrap();
    let copies = [
        ("photos/train/ant/0.jpg", "photos/train/bee/copy of ant.jpg"),
        ("photos/train/ant/1.jpg", "photos/val/ant/1.jpg"),
        ("photos/train/ant/2.jpg", "photos/train/ant/again.jpg"),
        ("photos/train/ant/3.jpg", "photos/train/cat/only.jpg"),
    ];
    for (from, to) in copies {
        let mut bytes = read(from);
        // The only cat is not a copy, so that it is found for another reason: it is missing from the validation set.
        if to.contains("cat") {
            bytes = photo(300, 300, 50).to_jpeg(90).unwrap();
        }
        write(root, to, &bytes);
    }
    fs::create_dir_all(root.join("photos/train/dog")).unwrap();
    write(root, "photos/val/eel/0.jpg", &photo(300, 224, 51).to_jpeg(90).unwrap());
    write(root, "photos/train/ant/notes.txt", b"");
    write(root, "photos/train/outside.jpg", b"");

    let doctor = ["doctor", "--data", "photos"];
    let (stdout, stderr) = expect_failure(root, &[&doctor[..], &["--json"]].concat());
    assert_eq!(stderr, "error: found 5 problems that would harm training\n");
    let mut json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["classes"][0], json!({ "name": "ant", "train": 7, "val": 2 }));
    assert_eq!(json["imbalance"], 7.0);
    assert_eq!(json["empty_classes"], json!(["dog", "eel"]));
    assert_eq!(json["only_in_train"], json!(["cat"]));
    assert_eq!(json["unreadable"][0]["file"], "photos/train/bee/broken.jpg");
    assert_eq!(json["unreadable"].as_array().unwrap().len(), 1);
    let expected = json!({
        "of_different_classes": [["photos/train/ant/0.jpg", "photos/train/bee/copy of ant.jpg"]],
        "across_splits": [["photos/train/ant/1.jpg", "photos/val/ant/1.jpg"]],
        "within_a_split": [["photos/train/ant/2.jpg", "photos/train/ant/again.jpg"]],
    });
    assert_eq!(json["duplicates"], expected);
    assert_eq!(json["small"].as_array().unwrap().len(), 13);
    assert_eq!(json["foreign"].take(), json!(["photos/train/ant/notes.txt", "photos/train/outside.jpg"]));

    let (report, _) = expect_failure(root, &[&doctor[..], &["--grid", "grid.png", "--image-size", "25"]].concat());
    for expected in [
        "5 classes, 12 training and 4 validation photos",
        "problem: unreadable files (1)\n  photos/train/bee/broken.jpg: not a photo",
        "note: photos with a side below 25 pixels (1)\n  photos/train/bee/0.png",
        "row 2 of the grid: bee",
    ] {
        assert!(report.contains(expected), "{expected:?} in {report}");
    }
    let grid = Photo::decode(&read("grid.png"), &Limits::default()).unwrap();
    assert_eq!((grid.width(), grid.height()), (8 * 128, 5 * 128));
}

#[test]
fn doctor_accepts_photos_without_problems() {
    let folder = folder_with_photos();
    let root = folder.path();
    fs::remove_file(root.join("photos/train/bee/broken.jpg")).unwrap();
    let report = expect_success(root, &["doctor", "--data", "photos"]);
    assert!(report.ends_with("no problems found\n"), "{report}");
    expect_success(root, &["pack", "--data", "photos", "--output", "shards"]);
    let json = expect_success(root, &["doctor", "--data", "shards", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["problems"], &json["classes"][0]["train"]), (&0.into(), &6.into()));
    let report = expect_success(root, &["doctor", "--data", "photos/train"]);
    assert!(report.contains("no validation photos"), "{report}");
    let report = expect_success(root, &["doctor", "--data", "photos/train", "--val-split", "0.2"]);
    assert!(report.starts_with("2 classes, 6 training and 2 validation photos"), "{report}");
}
