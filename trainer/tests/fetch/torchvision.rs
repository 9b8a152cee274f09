//! torchvision's weights by name, from a server without faults.

use crate::server::{ScriptedResponse, Server};
use crate::{cached_files, expect_failure, expect_success, fetch, unreachable_server};
use model::checkpoint::{Checkpoint, Dtype};
use std::fs;

pub const NAME: &str = "resnet18@torchvision";
pub const FILE: &str = "resnet18-f37072fd.pth";
pub const ETAG: &str = "\"one\"";

/// Returns a file written by `torch.save` whose SHA-256 starts with the digits that torchvision publishes for its
/// ResNet-18.
///
/// It contains all tensors of a ResNet-18, as views of one storage of zeros (see `golden/torchvision.py`). Its size is
/// 4.7 MB.
pub fn resnet18() -> Vec<u8> {
    const VALUES: usize = 512 * 512 * 3 * 3;
    /// Last 8 bytes of the storage, which only the largest convolution uses. Found by trying numbers until the hash
    /// matched.
    const LAST_VALUES: u64 = 0x2501_4e7b;
    let mut bytes = include_bytes!("../golden/torchvision-resnet18.pickles").to_vec();
    bytes.resize(bytes.len() + 2 * VALUES, 0);
    let end = bytes.len();
    bytes[end - 8..].copy_from_slice(&LAST_VALUES.to_le_bytes());
    bytes
}

/// Starts a server that sends the file of [`resnet18`] without faults.
pub fn reliable_server() -> Server {
    let file = resnet18();
    Server::start(move |_, request| ScriptedResponse::file(request, &file, ETAG))
}

#[test]
fn downloads_once_and_then_needs_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = reliable_server();
    let (path, stderr) = expect_success(&mut fetch(root, &server.address(), &[NAME]));
    let requests = server.requests();
    assert_eq!(requests.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), [format!("/{FILE}")]);
    assert_eq!(path, root.canonicalize().unwrap().join("cache/checkpoints/resnet18@torchvision-v1.f16.safetensors"));
    assert!(stderr.contains("resnet18, 1000 classes"), "{stderr}");

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
        let (again, stderr) = expect_success(&mut fetch(root, &unreachable_server(), &[name]));
        assert_eq!(again, path);
        assert!(!stderr.contains("downloading"), "{stderr}");
    }
    let (small, _) = expect_success(&mut fetch(root, &unreachable_server(), &[NAME, "--dtype", "i8"]));
    assert!(small.ends_with("resnet18@torchvision-v1.i8.safetensors"), "{}", small.display());
    assert_eq!(cached_files(root, "downloads"), [FILE], "no partial download is left");
}

#[test]
fn output_and_cache_flags_are_respected() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = reliable_server();
    let (path, _) = expect_success(&mut fetch(
        root,
        &server.address(),
        &[NAME, "--output", "mine.safetensors", "--cache", "elsewhere"],
    ));
    assert_eq!(path.to_str(), Some("mine.safetensors"));
    let kept = root.join("elsewhere/checkpoints/resnet18@torchvision-v1.f16.safetensors");
    assert_eq!(fs::read(root.join(path)).unwrap(), fs::read(kept).unwrap());
    assert!(!root.join("cache").exists(), "the flag overrides the environment");
    assert!(
        expect_failure(&mut fetch(root, &unreachable_server(), &[NAME, "--output", ".", "--cache", "elsewhere"]))
            .contains(". is a folder")
    );
    let nowhere = ["--output", "nowhere/mine.safetensors", "--cache", "elsewhere"];
    assert!(
        expect_failure(&mut fetch(root, &unreachable_server(), &[&[NAME][..], &nowhere].concat()))
            .contains("there is no folder nowhere")
    );
}

#[test]
fn unreachable_servers_are_reported_with_alternatives() {
    let folder = tempfile::tempdir().unwrap();
    let stderr = expect_failure(&mut fetch(folder.path(), &unreachable_server(), &[NAME]));
    for expected in ["cannot connect to 127.0.0.1", "--torchvision", "SHORTCUT_TORCHVISION", "trainer import"] {
        assert!(stderr.contains(expected), "{expected} is missing: {stderr}");
    }
    assert!(!stderr.contains("trying again"), "{stderr}");
    let stderr = expect_failure(&mut fetch(folder.path(), "http://shortcut.invalid", &[NAME]));
    assert!(stderr.contains("cannot resolve shortcut.invalid"), "{stderr}");
}

#[test]
fn replaces_damaged_files_of_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = reliable_server();
    let (path, _) = expect_success(&mut fetch(root, &server.address(), &[NAME]));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "no checkpoint").unwrap();
    expect_success(&mut fetch(root, &unreachable_server(), &[NAME]));
    assert_eq!(fs::read(&path).unwrap(), whole, "imported again from the download");

    fs::write(&path, "no checkpoint").unwrap();
    fs::write(root.join("cache/downloads").join(FILE), "no weights").unwrap();
    let (_, stderr) = expect_success(&mut fetch(root, &server.address(), &[NAME]));
    assert!(stderr.contains("expected f37072fd...; downloading it again"), "{stderr}");
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn list_shows_all_weights() {
    let folder = tempfile::tempdir().unwrap();
    let output = fetch(folder.path(), &unreachable_server(), &["--list"]).output().unwrap();
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
    let stderr = expect_failure(&mut fetch(folder.path(), &unreachable_server(), &["resnet18@torchvision-v2"]));
    assert!(stderr.contains("available: resnet18@torchvision, resnet18@torchvision-v1"), "{stderr}");
    assert!(expect_failure(&mut fetch(folder.path(), &unreachable_server(), &[])).contains("NAME"));
}
