//! A server that behaves like Hugging Face, and what lies on it.

use crate::server::{Answer, Request, Server};
use crate::{fail, fetch, succeed};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Dtype};
use model::random;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub const NAME: &str = "hf://timm/resnet18.test";
/// Where the file of weights lies at first.
pub const MODEL: &str = "/resolve/main/model.safetensors";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const OTHER_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// Somebody's file of a network that knows three classes: without our metadata.
pub fn weights() -> Vec<u8> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap()).convert(Dtype::F16).unwrap();
    let mut bytes = checkpoint.to_bytes();
    let key = bytes.windows(8).position(|window| window == b"shortcut").unwrap();
    bytes[key] = b'S';
    bytes
}

pub fn config() -> Value {
    json!({
        "architecture": "resnet18", "num_classes": 3, "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n1": "ant", "n2": "bee", "n3": "great white shark"},
        "pretrained_cfg": {
            "input_size": [3, 160, 160], "crop_pct": 0.95, "interpolation": "bicubic", "license": "apache-2.0",
            "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]
        }
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What a repository holds at present.
pub struct Content {
    pub commit: &'static str,
    pub config: Option<Value>,
    pub weights: Vec<u8>,
    /// What is said of the weights; their hash, if all is well.
    pub linked_etag: Option<String>,
}

impl Content {
    pub fn new(config: Value) -> Self {
        let weights = weights();
        let linked_etag = Some(format!("\"{}\"", sha256(&weights)));
        Content { commit: COMMIT, config: Some(config), weights, linked_etag }
    }
}

/// The service, and where its large files lie.
pub struct Hub {
    pub door: Server,
    pub store: Server,
}

impl Hub {
    pub fn new(content: Content) -> Self {
        Hub::of(Arc::new(Mutex::new(content)))
    }

    pub fn of(content: Arc<Mutex<Content>>) -> Self {
        let stored = content.clone();
        let store =
            Server::start(move |_, request| Answer::file(request, &stored.lock().unwrap().weights, "\"stored\""));
        let store_address = store.address();
        let door = Server::start(move |_, request| {
            if let Some(rest) = request.path.strip_prefix("/old/name") {
                return Answer::redirect(307, &format!("/timm/resnet18.test{rest}"));
            }
            let Content { commit, config, linked_etag, .. } = &*content.lock().unwrap();
            let known = ["main", "v1.0", *commit];
            let path = request.path.strip_prefix("/timm/resnet18.test/resolve/").and_then(|path| path.split_once('/'));
            let Some((_, file)) = path.filter(|(revision, _)| known.contains(revision)) else {
                return Answer::status(404).with("x-error-code", "RevisionNotFound");
            };
            match (file, config, linked_etag) {
                ("config.json", Some(config), _) => Answer::whole(config.to_string().as_bytes()),
                ("model.safetensors", _, Some(etag)) => Answer::redirect(302, &format!("{store_address}/signed"))
                    .with("x-linked-etag", etag)
                    .with("x-repo-commit", commit),
                ("model.safetensors", ..) => Answer::redirect(302, &format!("{store_address}/signed")),
                _ => Answer::status(404).with("x-error-code", "EntryNotFound"),
            }
        });
        Hub { door, store }
    }

    /// With a token, which must not come to the store.
    pub fn succeed(&self, folder: &Path, arguments: &[&str]) -> (Checkpoint, String) {
        let mut command = fetch(folder, &self.door.address(), arguments);
        let (path, words) = succeed(command.env("HF_TOKEN", "hf_secret"));
        assert!(!words.contains("hf_secret"), "{words}");
        (Checkpoint::from_path(path).unwrap(), words)
    }

    pub fn fail(&self, folder: &Path, arguments: &[&str]) -> String {
        fail(&mut fetch(folder, &self.door.address(), arguments))
    }
}

pub fn lines(server: &Server) -> Vec<String> {
    server.requests().iter().map(|Request { method, path, .. }| format!("{method} {path}")).collect()
}
