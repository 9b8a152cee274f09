//! `trainer pack` and `trainer doctor` on a few small generated photos.

use model::preprocess::{Limits, Photo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

fn trainer(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer")).current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the trainer and returns its stdout and stderr; panics if it fails.
fn succeed(folder: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = trainer(folder, arguments);
    assert!(status.success(), "{arguments:?}: {}{}", text(&stdout), text(&stderr));
    (text(&stdout), text(&stderr))
}

/// Runs the trainer and returns its stdout and stderr; panics unless it exits with status 1.
fn fail(folder: &Path, arguments: &[&str]) -> (String, String) {
    let Output { status, stdout, stderr } = trainer(folder, arguments);
    assert!(status.code() == Some(1) && !text(&stderr).contains("panicked"), "{arguments:?}: {}", text(&stderr));
    (text(&stdout), text(&stderr))
}

/// Creates a photo with a colour that depends on `seed`, and a horizontal gradient.
fn photo(width: u32, height: u32, seed: u8) -> Photo {
    let pixel = |x: u32| [seed.wrapping_mul(37), seed.wrapping_mul(91), (x * 255 / width) as u8, 255];
    let rgba: Vec<u8> = (0..height).flat_map(|_| (0..width).flat_map(pixel)).collect();
    Photo::from_rgba(width, height, &rgba).unwrap()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Creates a folder with six ants and two bees for training and one of each for validation. The first ant is large, the first bee
/// is a small PNG, and one training file is not a photo.
fn photos() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "photos/train/ant/0.jpg", &photo(90, 60, 0).to_jpeg(95).unwrap());
    for seed in 1..6 {
        write(at, &format!("photos/train/ant/{seed}.jpg"), &photo(40, 32, seed).to_jpeg(95).unwrap());
    }
    write(at, "photos/train/bee/0.png", &photo(30, 20, 10).to_png());
    write(at, "photos/train/bee/1.png", &photo(64, 96, 11).to_png());
    write(at, "photos/train/bee/broken.jpg", b"not a photo");
    write(at, "photos/val/ant/0.jpg", &photo(40, 32, 20).to_jpeg(95).unwrap());
    write(at, "photos/val/bee/0.jpg", &photo(40, 32, 21).to_jpeg(95).unwrap());
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
    let folder = photos();
    let at = folder.path();
    let pack = ["pack", "--data", "photos", "--short-side", "32", "--shard-size", "5", "--output"];
    let (stdout, stderr) = succeed(at, &[&pack[..], &["shards"]].concat());
    assert!(stdout.starts_with("train: 8 photos in 2 shards, "), "{stdout}");
    assert!(stdout.contains("(6 copied unchanged, 1 skipped)\nval: 2 photos in 1 shards"), "{stdout}");
    assert!(stderr.contains("skipped photos/train/bee/broken.jpg: not a photo"), "{stderr}");

    let mut names: Vec<_> = fs::read_dir(at.join("shards")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["classes.txt", "train-000000.tar", "train-000001.tar", "val-000000.tar"]);
    assert_eq!(fs::read_to_string(at.join("shards/classes.txt")).unwrap(), "ant\nbee\n");
    let shards = ["shards/train-000000.tar", "shards/train-000001.tar"].map(|shard| members(&at.join(shard)));
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
    let small = fs::read(at.join("photos/train/ant/3.jpg")).unwrap();
    assert!(all.iter().any(|(_, bytes)| *bytes == small), "a JPEG that is small enough is copied unchanged");

    succeed(at, &[&pack[..], &["again"]].concat());
    succeed(at, &[&pack[..], &["other", "--seed", "1"]].concat());
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    assert!(read("again/train-000000.tar") == read("shards/train-000000.tar"), "equal photos give equal shards");
    assert!(read("other/train-000000.tar") != read("shards/train-000000.tar"));

    let train = ["train", "--data", "shards", "--recipe", "tutorial", "--set", "epochs=1", "--batch-size", "4"];
    let (stdout, _) = succeed(at, &[&train[..], &["--image-size", "32", "--output", "run"]].concat());
    assert!(stdout.contains("2 classes, 8 training and 2 validation photos"), "{stdout}");
    let (stdout, _) = succeed(at, &["evaluate", "--checkpoint", "run/last.safetensors", "--data", "shards"]);
    assert!(stdout.contains("; 2 photos, 0 skipped"), "{stdout}");
}

#[test]
fn pack_reports_errors_and_leaves_no_files() {
    let folder = photos();
    let at = folder.path();
    let pack = ["pack", "--data", "photos", "--output", "shards"];
    for name in ["0.png", "1.png"] {
        write(at, &format!("photos/train/bee/{name}"), b"not a photo");
    }
    let (_, stderr) = fail(at, &pack);
    assert!(stderr.contains("error: none of the photos of bee could be read"), "{stderr}");
    assert_eq!(fs::read_dir(at.join("shards")).unwrap().count(), 0, "no files are left");
    fs::create_dir_all(at.join("shards/more")).unwrap();
    assert!(fail(at, &pack).1.contains("shards is not empty"));
}

#[test]
fn doctor_finds_problems_that_would_spoil_training() {
    let folder = photos();
    let at = folder.path();
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    let copies = [
        ("photos/train/ant/0.jpg", "photos/train/bee/as ant.jpg"),
        ("photos/train/ant/1.jpg", "photos/val/ant/1.jpg"),
        ("photos/train/ant/2.jpg", "photos/train/ant/again.jpg"),
        ("photos/train/ant/3.jpg", "photos/train/cat/only.jpg"),
    ];
    for (from, to) in copies {
        let mut bytes = read(from);
        // The cat is a different photo.
        if to.contains("cat") {
            bytes = photo(300, 300, 50).to_jpeg(90).unwrap();
        }
        write(at, to, &bytes);
    }
    fs::create_dir_all(at.join("photos/train/dog")).unwrap();
    write(at, "photos/val/eel/0.jpg", &photo(300, 224, 51).to_jpeg(90).unwrap());
    write(at, "photos/train/ant/notes.txt", b"");
    write(at, "photos/train/beside.jpg", b"");

    let doctor = ["doctor", "--data", "photos"];
    let (stdout, stderr) = fail(at, &[&doctor[..], &["--json"]].concat());
    assert_eq!(stderr, "error: found 5 problems that would harm training\n");
    let mut json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["classes"][0], json!({ "name": "ant", "train": 7, "val": 2 }));
    assert_eq!(json["imbalance"], 7.0);
    assert_eq!(json["empty_classes"], json!(["dog", "eel"]));
    assert_eq!(json["only_in_train"], json!(["cat"]));
    assert_eq!(json["unreadable"][0]["place"], "photos/train/bee/broken.jpg");
    assert_eq!(json["unreadable"].as_array().unwrap().len(), 1);
    let expected = json!({
        "of_different_classes": [["photos/train/ant/0.jpg", "photos/train/bee/as ant.jpg"]],
        "across_splits": [["photos/train/ant/1.jpg", "photos/val/ant/1.jpg"]],
        "within_a_split": [["photos/train/ant/2.jpg", "photos/train/ant/again.jpg"]],
    });
    assert_eq!(json["duplicates"], expected);
    assert_eq!(json["small"].as_array().unwrap().len(), 13);
    assert_eq!(json["foreign"].take(), json!(["photos/train/ant/notes.txt", "photos/train/beside.jpg"]));

    let (words, _) = fail(at, &[&doctor[..], &["--grid", "grid.png", "--image-size", "25"]].concat());
    for expected in [
        "5 classes, 12 training and 4 validation photos",
        "problem: unreadable files (1)\n  photos/train/bee/broken.jpg: not a photo",
        "note: photos with a side below 25 pixels (1)\n  photos/train/bee/0.png",
        "row 2 of the grid: bee",
    ] {
        assert!(words.contains(expected), "{expected:?} in {words}");
    }
    let grid = Photo::decode(&read("grid.png"), &Limits::default()).unwrap();
    assert_eq!((grid.width(), grid.height()), (8 * 128, 5 * 128));
}

#[test]
fn doctor_accepts_good_photos() {
    let folder = photos();
    let at = folder.path();
    fs::remove_file(at.join("photos/train/bee/broken.jpg")).unwrap();
    let (words, _) = succeed(at, &["doctor", "--data", "photos"]);
    assert!(words.ends_with("no problems found\n"), "{words}");
    succeed(at, &["pack", "--data", "photos", "--output", "shards"]);
    let (json, _) = succeed(at, &["doctor", "--data", "shards", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["problems"], &json["classes"][0]["train"]), (&0.into(), &6.into()));
    let (words, _) = succeed(at, &["doctor", "--data", "photos/train"]);
    assert!(words.contains("no validation photos"), "{words}");
    let (words, _) = succeed(at, &["doctor", "--data", "photos/train", "--val-split", "0.2"]);
    assert!(words.starts_with("2 classes, 6 training and 2 validation photos"), "{words}");
}
