//! Repositories on Hugging Face, which sends the hash of a large file in the response that redirects to its storage.

use crate::hub::{COMMIT, Content, Hub, MODEL, NAME, OTHER_COMMIT, config, request_lines, sha256, weights};
use crate::server::{Request, ScriptedResponse, Server};
use crate::{cached_files, expect_failure, expect_success, fetch, unreachable_server};
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::preprocess::Interpolation;
use model::random;
use serde_json::json;
use std::sync::{Arc, Mutex};

#[test]
fn downloads_a_repository_once_and_applies_its_config() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let hub = Hub::new(Content::new(config()));
    let (checkpoint, stderr) = hub.expect_success(root, &[NAME]);
    let metadata = checkpoint.metadata();
    assert_eq!(metadata.classes, ["n1", "n2", "n3"]);
    assert_eq!(metadata.labels, ["ant", "bee", "great white shark"]);
    let preprocessing = &metadata.preprocessing;
    assert_eq!((preprocessing.resize, preprocessing.crop), (168, 160));
    assert_eq!((preprocessing.interpolation, preprocessing.mean), (Interpolation::Bicubic, [0.5; 3]));
    let provenance = metadata.provenance.as_deref().unwrap();
    for part in ["https://huggingface.co/timm/resnet18.test", COMMIT, "apache-2.0"] {
        assert!(provenance.contains(part), "{provenance}");
    }
    assert!(stderr.contains("resnet18, 3 classes"), "{stderr}");

    let repository = "/timm/resnet18.test/resolve";
    let expected = [
        format!("HEAD {repository}/main/model.safetensors"),
        format!("GET {repository}/{COMMIT}/config.json"),
        format!("GET {repository}/{COMMIT}/model.safetensors"),
    ];
    assert_eq!(request_lines(&hub.service), expected);
    for request in hub.service.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"), "{}", request.path);
    }
    let stored = hub.storage.requests();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].header("authorization"), None, "the token is not sent to the storage");

    drop(hub);
    expect_success(&mut fetch(root, &unreachable_server(), &[NAME]));
    expect_success(&mut fetch(root, &unreachable_server(), &[NAME, "--dtype", "f32"]));
    assert_eq!(
        cached_files(root, "checkpoints"),
        ["timm--resnet18.test@main.f16.safetensors", "timm--resnet18.test@main.f32.safetensors"]
    );
}

#[test]
fn update_resolves_a_revision_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let content = Arc::new(Mutex::new(Content::new(config())));
    let hub = Hub::with_shared_content(content.clone());
    hub.expect_success(root, &[&format!("{NAME}@v1.0")]);
    assert_eq!(request_lines(&hub.service)[0], "HEAD /timm/resnet18.test/resolve/v1.0/model.safetensors");
    let (old, _) = hub.expect_success(root, &[NAME]);
    assert_eq!(hub.storage.requests().len(), 1, "the same file is not downloaded twice");

    let mut other = config();
    other["label_descriptions"]["n1"] = json!("fire ant");
    *content.lock().unwrap() = Content { commit: OTHER_COMMIT, ..Content::new(other) };
    let (same, _) = hub.expect_success(root, &[NAME]);
    assert_eq!(same.metadata(), old.metadata());
    let (new, _) = hub.expect_success(root, &[NAME, "--update"]);
    assert_eq!(new.metadata().labels[0], "fire ant");
    let (new, _) = hub.expect_success(root, &[NAME]);
    assert_eq!(new.metadata().labels[0], "fire ant", "the new commit is cached");
}

#[test]
fn resumes_through_the_redirect() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights();
    let etag = format!("\"{}\"", sha256(&file));
    let storage = Server::start(move |number, request| match number {
        0 => ScriptedResponse::file(request, &file, "\"stored\"").broken_after(3_000_000),
        _ => ScriptedResponse::file(request, &file, "\"stored\""),
    });
    let to = format!("{}/signed", storage.address());
    let service = Server::start(move |_, request| match request.path.ends_with(".json") {
        true => ScriptedResponse::whole(config().to_string().as_bytes()),
        false => ScriptedResponse::redirect(302, &to)
            .with_header("x-linked-etag", &etag)
            .with_header("x-repo-commit", COMMIT),
    });
    expect_success(&mut fetch(folder.path(), &service.address(), &[NAME]));
    let starts: Vec<_> = storage.requests().iter().map(Request::start).collect();
    assert_eq!(starts, [None, Some(3_000_000)]);
    assert_eq!(service.requests().len(), 4, "signed URLs expire, so a new one is requested");
}

#[test]
fn follows_a_renamed_repository() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    hub.expect_success(folder.path(), &["hf://old/name"]);
    assert_eq!(
        request_lines(&hub.service)[..2],
        ["HEAD /old/name", "HEAD /timm/resnet18.test"].map(|line| format!("{line}{MODEL}"))
    );
    assert_eq!(cached_files(folder.path(), "checkpoints"), ["old--name@main.f16.safetensors"]);
}

#[test]
fn does_not_trust_a_hash_from_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    let to = format!("{}/timm/resnet18.test{MODEL}", hub.service.address());
    let redirecting = Server::start(move |_, _| ScriptedResponse::redirect(302, &to));
    let stderr = expect_failure(&mut fetch(folder.path(), &redirecting.address(), &[NAME]));
    assert!(stderr.contains("did not send the file's SHA-256"), "{stderr}");
    assert_eq!(hub.service.requests().len(), 0);
}

#[test]
fn keeps_the_metadata_of_this_projects_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
    let labels = ["fire ant", "honey bee", "wasp"].map(str::to_owned).to_vec();
    let metadata = Metadata { labels, ..checkpoint.metadata().clone() };
    let weights = checkpoint.with_metadata(metadata.clone()).unwrap().to_bytes();
    let linked_etag = Some(sha256(&weights));
    let hub = Hub::new(Content { weights, linked_etag, ..Content::new(config()) });
    let (checkpoint, _) = hub.expect_success(folder.path(), &[NAME]);
    assert_eq!(*checkpoint.metadata(), metadata);
}

#[test]
fn rejects_unsupported_networks_before_downloading_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = config();
    other["architecture"] = json!("resnet50d");
    let hub = Hub::new(Content::new(other));
    let stderr = hub.expect_failure(folder.path(), &[NAME]);
    assert!(stderr.contains("timm's resnet50d is not one of") && stderr.contains("resnet18, resnet34"), "{stderr}");
    assert_eq!(hub.storage.requests().len(), 0);

    let folder = tempfile::tempdir().unwrap();
    let mut other = config();
    other["architecture"] = json!("resnet34");
    let stderr = Hub::new(Content::new(other)).expect_failure(folder.path(), &[NAME]);
    assert!(stderr.contains(NAME) && stderr.contains("resnet34 needs a tensor"), "{stderr}");
}

#[test]
fn rejects_missing_malformed_and_wrong_hashes() {
    for (etag, reason) in [
        (None, "did not send the file's SHA-256"),
        (Some("\"0123456789abcdef0123456789abcdef01234567\""), "expected a SHA-256"),
        (
            Some("\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""),
            "the file was damaged or replaced",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new(Content { linked_etag: etag.map(str::to_owned), ..Content::new(config()) });
        let stderr = hub.expect_failure(folder.path(), &[NAME]);
        assert!(stderr.contains(reason), "{stderr}");
        assert_eq!(cached_files(folder.path(), "checkpoints"), [""; 0]);
        assert!(
            cached_files(folder.path(), "downloads").iter().all(|name| name.ends_with(".json")),
            "the weights are deleted"
        );
    }
}

#[test]
fn rejects_files_that_are_not_a_resnet() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = weights();
    let position = file.windows(5).position(|window| window == b"conv1").unwrap();
    file[position..position + 5].copy_from_slice(b"patch");
    let linked_etag = Some(sha256(&file));
    let stderr = Hub::new(Content { weights: file, linked_etag, ..Content::new(config()) })
        .expect_failure(folder.path(), &[NAME]);
    assert!(
        stderr.contains("not a ResNet with torchvision's or timm's tensor names") && stderr.contains("conv1"),
        "{stderr}"
    );
}

#[test]
fn error_codes_of_the_service_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    let stderr = hub.expect_failure(folder.path(), &[&format!("{NAME}/ema.safetensors")]);
    assert!(stderr.contains("timm/resnet18.test has no ema.safetensors at main"), "{stderr}");
    let stderr = hub.expect_failure(folder.path(), &[&format!("{NAME}@v9")]);
    assert!(stderr.contains("timm/resnet18.test has no revision v9"), "{stderr}");
    for (status, code) in [(401, "RepoNotFound"), (401, "GatedRepo")] {
        let server = Server::start(move |_, _| ScriptedResponse::status(status).with_header("x-error-code", code));
        let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert!(stderr.contains("set HF_TOKEN"), "{stderr}");
        let stderr = expect_failure(fetch(folder.path(), &server.address(), &[NAME]).env("HF_TOKEN", "hf_secret"));
        assert!(stderr.contains("access") && !stderr.contains("hf_secret"), "{stderr}");
    }
    let stderr = expect_failure(fetch(folder.path(), &hub.service.address(), &[NAME]).env("HF_TOKEN", "no\nheader"));
    assert!(stderr.contains("HF_TOKEN"), "{stderr}");
}

#[test]
fn without_a_config_the_tensors_determine_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content { config: None, ..Content::new(config()) });
    let (checkpoint, stderr) = hub.expect_success(folder.path(), &[NAME]);
    assert!(stderr.contains("has no config.json") && stderr.contains("--labels FILE"), "{stderr}");
    assert_eq!(
        (checkpoint.architecture().name(), checkpoint.metadata().preprocessing.resize),
        ("resnet18".to_owned(), 256)
    );
}
