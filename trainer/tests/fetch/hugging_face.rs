//! Repositories on Hugging Face: a redirect to where large files lie, and their hash before it.

use crate::hub::{COMMIT, Content, Hub, MODEL, NAME, OTHER_COMMIT, config, lines, sha256, weights};
use crate::server::{Answer, Request, Server};
use crate::{fail, fetch, files, nobody, succeed};
use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::preprocess::Interpolation;
use model::random;
use serde_json::json;
use std::sync::{Arc, Mutex};

#[test]
fn a_repository_is_downloaded_once_with_what_its_config_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let hub = Hub::new(Content::new(config()));
    let (checkpoint, words) = hub.succeed(at, &[NAME]);
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
    assert!(words.contains("resnet18, 3 classes"), "{words}");

    let below = "/timm/resnet18.test/resolve";
    let expected = [
        format!("HEAD {below}/main/model.safetensors"),
        format!("GET {below}/{COMMIT}/config.json"),
        format!("GET {below}/{COMMIT}/model.safetensors"),
    ];
    assert_eq!(lines(&hub.door), expected);
    for request in hub.door.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"), "{}", request.path);
    }
    let stored = hub.store.requests();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].header("authorization"), None, "the token goes nowhere else");

    drop(hub);
    succeed(&mut fetch(at, &nobody(), &[NAME]));
    succeed(&mut fetch(at, &nobody(), &[NAME, "--dtype", "f32"]));
    assert_eq!(
        files(at, "checkpoints"),
        ["timm--resnet18.test@main.f16.safetensors", "timm--resnet18.test@main.f32.safetensors"]
    );
}

#[test]
fn a_revision_stays_what_it_was_until_somebody_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let content = Arc::new(Mutex::new(Content::new(config())));
    let hub = Hub::of(content.clone());
    hub.succeed(at, &[&format!("{NAME}@v1.0")]);
    assert_eq!(lines(&hub.door)[0], "HEAD /timm/resnet18.test/resolve/v1.0/model.safetensors");
    let (old, _) = hub.succeed(at, &[NAME]);
    assert_eq!(hub.store.requests().len(), 1, "the same file is not downloaded twice");

    let mut other = config();
    other["label_descriptions"]["n1"] = json!("fire ant");
    *content.lock().unwrap() = Content { commit: OTHER_COMMIT, ..Content::new(other) };
    let (same, _) = hub.succeed(at, &[NAME]);
    assert_eq!(same.metadata(), old.metadata());
    let (new, _) = hub.succeed(at, &[NAME, "--update"]);
    assert_eq!(new.metadata().labels[0], "fire ant");
    let (new, _) = hub.succeed(at, &[NAME]);
    assert_eq!(new.metadata().labels[0], "fire ant", "and it stays so");
}

#[test]
fn downloads_resume_over_the_redirect() {
    let folder = tempfile::tempdir().unwrap();
    let file = weights();
    let etag = format!("\"{}\"", sha256(&file));
    let store = Server::start(move |number, request| match number {
        0 => Answer::file(request, &file, "\"stored\"").broken_after(3_000_000),
        _ => Answer::file(request, &file, "\"stored\""),
    });
    let to = format!("{}/signed", store.address());
    let door = Server::start(move |_, request| match request.path.ends_with(".json") {
        true => Answer::whole(config().to_string().as_bytes()),
        false => Answer::redirect(302, &to).with("x-linked-etag", &etag).with("x-repo-commit", COMMIT),
    });
    succeed(&mut fetch(folder.path(), &door.address(), &[NAME]));
    let starts: Vec<_> = store.requests().iter().map(Request::start).collect();
    assert_eq!(starts, [None, Some(3_000_000)]);
    assert_eq!(door.requests().len(), 4, "a signed address may have run out, so it is asked for again");
}

#[test]
fn a_repository_under_a_new_name_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    hub.succeed(folder.path(), &["hf://old/name"]);
    assert_eq!(
        lines(&hub.door)[..2],
        ["HEAD /old/name", "HEAD /timm/resnet18.test"].map(|line| format!("{line}{MODEL}"))
    );
    assert_eq!(files(folder.path(), "checkpoints"), ["old--name@main.f16.safetensors"]);
}

#[test]
fn what_another_server_says_of_a_hash_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    let to = format!("{}/timm/resnet18.test{MODEL}", hub.door.address());
    let before = Server::start(move |_, _| Answer::redirect(302, &to));
    let words = fail(&mut fetch(folder.path(), &before.address(), &[NAME]));
    assert!(words.contains("does not tell the file's SHA-256"), "{words}");
    assert_eq!(hub.door.requests().len(), 0);
}

#[test]
fn a_checkpoint_of_ours_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
    let labels = ["fire ant", "honey bee", "wasp"].map(str::to_owned).to_vec();
    let metadata = Metadata { labels: labels.clone(), ..checkpoint.metadata().clone() };
    let weights = checkpoint.with_metadata(metadata.clone()).unwrap().to_bytes();
    let linked_etag = Some(sha256(&weights));
    let hub = Hub::new(Content { weights, linked_etag, ..Content::new(config()) });
    let (checkpoint, _) = hub.succeed(folder.path(), &[NAME]);
    assert_eq!(*checkpoint.metadata(), metadata);
}

#[test]
fn what_is_another_network_is_refused_before_it_is_downloaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = config();
    other["architecture"] = json!("resnet50d");
    let hub = Hub::new(Content::new(other));
    let words = hub.fail(folder.path(), &[NAME]);
    assert!(words.contains("timm's resnet50d is another network") && words.contains("resnet18, resnet34"), "{words}");
    assert_eq!(hub.store.requests().len(), 0);

    let folder = tempfile::tempdir().unwrap();
    let mut other = config();
    other["architecture"] = json!("resnet34");
    let words = Hub::new(Content::new(other)).fail(folder.path(), &[NAME]);
    assert!(words.contains(NAME) && words.contains("resnet34 needs a tensor"), "{words}");
}

#[test]
fn a_file_without_a_right_hash_is_refused() {
    for (etag, reason) in [
        (None, "does not tell the file's SHA-256"),
        (Some("\"0123456789abcdef0123456789abcdef01234567\""), "but a SHA-256 is wanted"),
        (Some("\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\""), "is right. It was damaged"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub::new(Content { linked_etag: etag.map(str::to_owned), ..Content::new(config()) });
        let words = hub.fail(folder.path(), &[NAME]);
        assert!(words.contains(reason), "{words}");
        assert_eq!(files(folder.path(), "checkpoints"), [""; 0]);
        assert!(files(folder.path(), "downloads").iter().all(|name| name.ends_with(".json")), "no weights are left");
    }
}

#[test]
fn what_is_no_resnet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = weights();
    let place = file.windows(5).position(|window| window == b"conv1").unwrap();
    file[place..place + 5].copy_from_slice(b"patch");
    let linked_etag = Some(sha256(&file));
    let words = Hub::new(Content { weights: file, linked_etag, ..Content::new(config()) }).fail(folder.path(), &[NAME]);
    assert!(
        words.contains("ResNets under torchvision's or timm's names are taken") && words.contains("conv1"),
        "{words}"
    );
}

#[test]
fn refusals_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content::new(config()));
    let words = hub.fail(folder.path(), &[&format!("{NAME}/ema.safetensors")]);
    assert!(words.contains("timm/resnet18.test has no ema.safetensors at main"), "{words}");
    let words = hub.fail(folder.path(), &[&format!("{NAME}@v9")]);
    assert!(words.contains("timm/resnet18.test has no revision v9"), "{words}");
    for (status, code) in [(401, "RepoNotFound"), (401, "GatedRepo")] {
        let server = Server::start(move |_, _| Answer::status(status).with("x-error-code", code));
        let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert!(words.contains("HF_TOKEN must hold a token"), "{words}");
        let words = fail(fetch(folder.path(), &server.address(), &[NAME]).env("HF_TOKEN", "hf_secret"));
        assert!(words.contains("access") && !words.contains("hf_secret"), "{words}");
    }
    let words = fail(fetch(folder.path(), &hub.door.address(), &[NAME]).env("HF_TOKEN", "no\nheader"));
    assert!(words.contains("HF_TOKEN"), "{words}");
}

#[test]
fn without_a_config_the_tensors_decide() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::new(Content { config: None, ..Content::new(config()) });
    let (checkpoint, words) = hub.succeed(folder.path(), &[NAME]);
    assert!(words.contains("there is no config.json") && words.contains("--labels FILE"), "{words}");
    assert_eq!(
        (checkpoint.architecture().name(), checkpoint.metadata().preprocessing.resize),
        ("resnet18".to_owned(), 256)
    );
}
