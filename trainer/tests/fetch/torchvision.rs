//! torchvision's weights by name, from a server that does what it should.

use crate::server::{Answer, Server};
use crate::{fail, fetch, files, nobody, succeed};
use model::checkpoint::{Checkpoint, Dtype};
use std::fs;

pub const NAME: &str = "resnet18@torchvision";
pub const FILE: &str = "resnet18-f37072fd.pth";
pub const TAG: &str = "\"one\"";

/// A file of `torch.save` with all tensors of torchvision's ResNet-18, zeros every one, whose SHA-256 begins like that
/// of torchvision's file: `golden/torchvision.py`. It has 4.7 MB.
pub fn resnet18() -> Vec<u8> {
    const VALUES: usize = 512 * 512 * 3 * 3;
    /// Found by trying. It stands at the end of the one convolution that is as large as the storage.
    const LAST_VALUES: u64 = 0x2501_4e7b;
    let mut bytes = include_bytes!("../golden/torchvision-resnet18.pickles").to_vec();
    bytes.resize(bytes.len() + 2 * VALUES, 0);
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&LAST_VALUES.to_le_bytes());
    bytes
}

/// The server that torchvision has.
pub fn sound() -> Server {
    let file = resnet18();
    Server::start(move |_, request| Answer::file(request, &file, TAG))
}

#[test]
fn a_name_is_downloaded_once_and_needs_no_network_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = sound();
    let (path, words) = succeed(&mut fetch(at, &server.address(), &[NAME]));
    let requests = server.requests();
    assert_eq!(requests.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), [format!("/{FILE}")]);
    assert_eq!(path, at.canonicalize().unwrap().join("cache/checkpoints/resnet18@torchvision-v1.f16.safetensors"));
    assert!(words.contains("resnet18, 1000 classes"), "{words}");

    let checkpoint = Checkpoint::from_path(&path).unwrap();
    let metadata = checkpoint.metadata();
    assert_eq!((metadata.classes[281].as_str(), metadata.labels[281].as_str()), ("n02123045", "tabby"));
    assert_eq!((metadata.preprocessing.resize, metadata.preprocessing.crop), (256, 224));
    let provenance = metadata.provenance.as_deref().unwrap();
    assert!(provenance.contains("https://download.pytorch.org/models/resnet18-f37072fd.pth"), "{provenance}");
    let stored = checkpoint.entries().find(|entry| entry.name == "conv1.weight").unwrap().dtype;
    assert_eq!(stored, Dtype::F16);

    drop(server);
    for name in [NAME, "resnet18@torchvision-v1"] {
        let (again, words) = succeed(&mut fetch(at, &nobody(), &[name]));
        assert_eq!(again, path);
        assert!(!words.contains("downloading"), "{words}");
    }
    let (small, _) = succeed(&mut fetch(at, &nobody(), &[NAME, "--dtype", "i8"]));
    assert!(small.ends_with("resnet18@torchvision-v1.i8.safetensors"), "{}", small.display());
    assert_eq!(files(at, "downloads"), [FILE], "nothing half is left");
}

#[test]
fn the_checkpoint_goes_where_the_user_wants_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = sound();
    let (path, _) =
        succeed(&mut fetch(at, &server.address(), &[NAME, "--output", "mine.safetensors", "--cache", "elsewhere"]));
    assert_eq!(path.to_str(), Some("mine.safetensors"));
    let kept = at.join("elsewhere/checkpoints/resnet18@torchvision-v1.f16.safetensors");
    assert_eq!(fs::read(at.join(path)).unwrap(), fs::read(kept).unwrap());
    assert!(!at.join("cache").exists(), "the flag goes before the environment");
    assert!(
        fail(&mut fetch(at, &nobody(), &[NAME, "--output", ".", "--cache", "elsewhere"])).contains(". is a folder")
    );
    let nowhere = ["--output", "nowhere/mine.safetensors", "--cache", "elsewhere"];
    assert!(fail(&mut fetch(at, &nobody(), &[&[NAME][..], &nowhere].concat())).contains("there is no folder nowhere"));
}

#[test]
fn without_a_network_the_ways_around_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let words = fail(&mut fetch(folder.path(), &nobody(), &[NAME]));
    for part in ["127.0.0.1 cannot be reached", "--torchvision", "SHORTCUT_TORCHVISION", "trainer import"] {
        assert!(words.contains(part), "{part} is missing: {words}");
    }
    assert!(!words.contains("trying again"), "{words}");
    let words = fail(&mut fetch(folder.path(), "http://shortcut.invalid", &[NAME]));
    assert!(words.contains("shortcut.invalid cannot be found"), "{words}");
}

#[test]
fn what_is_damaged_in_the_cache_is_downloaded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = sound();
    let (path, _) = succeed(&mut fetch(at, &server.address(), &[NAME]));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "no checkpoint").unwrap();
    succeed(&mut fetch(at, &nobody(), &[NAME]));
    assert_eq!(fs::read(&path).unwrap(), whole, "made anew of what was downloaded");

    fs::write(&path, "no checkpoint").unwrap();
    fs::write(at.join("cache/downloads").join(FILE), "no weights").unwrap();
    let (_, words) = succeed(&mut fetch(at, &server.address(), &[NAME]));
    assert!(words.contains("f37072fd... is right: it is downloaded anew"), "{words}");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn the_list_names_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(folder.path(), &nobody(), &["--list"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    for part in [
        "resnet50@torchvision-v1 ",
        "resnet50@torchvision-v2, resnet50@torchvision ",
        "resnet50-11ad3fa6.pth",
        "80.858 %",
    ] {
        assert!(list.contains(part), "{part} is missing:\n{list}");
    }
    assert_eq!(list.lines().count(), 18);
    let words = fail(&mut fetch(folder.path(), &nobody(), &["resnet18@torchvision-v2"]));
    assert!(words.contains("there is resnet18@torchvision, and of it resnet18@torchvision-v1"), "{words}");
    assert!(fail(&mut fetch(folder.path(), &nobody(), &[])).contains("NAME"));
}
