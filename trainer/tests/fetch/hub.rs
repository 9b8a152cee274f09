//! A scripted server that behaves like Hugging Face, with one repository.

use crate::server::{Request, ScriptedResponse, Server};
use crate::{expect_failure, expect_success, fetch};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Dtype};
use model::random;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub const NAME: &str = "hf://timm/resnet18.test";
/// Path of the weights below the repository.
pub const MODEL: &str = "/resolve/main/model.safetensors";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const OTHER_COMMIT: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// Returns a safetensors file of a ResNet-18 with three classes, without this project's metadata.
pub fn weights() -> Vec<u8> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap()).convert(Dtype::F16).unwrap();
    let mut bytes = checkpoint.to_bytes();
    // Misspell the key `shortcut` of the metadata, so that the file has none.
    let key = bytes.windows(8).position(|window| window == b"shortcut").unwrap();
    bytes[key] = b'S';
    bytes
}

/// Returns a `config.json` as written by timm, for the network of [`weights`].
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

/// Returns the SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The files of the repository, and what the service reports about them.
pub struct Content {
    pub commit: &'static str,
    pub config: Option<Value>,
    pub weights: Vec<u8>,
    /// Header `x-linked-etag` of the weights: by default, their hash.
    pub linked_etag: Option<String>,
}

impl Content {
    /// Returns a repository with this `config.json` and the file of [`weights`].
    pub fn new(config: Value) -> Self {
        let weights = weights();
        let linked_etag = Some(format!("\"{}\"", sha256(&weights)));
        Content { commit: COMMIT, config: Some(config), weights, linked_etag }
    }
}

/// The service, and the storage server to which it redirects requests for large files.
pub struct Hub {
    pub service: Server,
    pub storage: Server,
}

impl Hub {
    pub fn new(content: Content) -> Self {
        Hub::with_shared_content(Arc::new(Mutex::new(content)))
    }

    /// Starts both servers with content that a test may change later.
    pub fn with_shared_content(content: Arc<Mutex<Content>>) -> Self {
        let stored = content.clone();
        let storage = Server::start(move |_, request| {
            ScriptedResponse::file(request, &stored.lock().unwrap().weights, "\"stored\"")
        });
        let storage_address = storage.address();
        let service = Server::start(move |_, request| {
            if let Some(rest) = request.path.strip_prefix("/old/name") {
                return ScriptedResponse::redirect(307, &format!("/timm/resnet18.test{rest}"));
            }
            let Content { commit, config, linked_etag, .. } = &*content.lock().unwrap();
            let known = ["main", "v1.0", *commit];
            let path = request.path.strip_prefix("/timm/resnet18.test/resolve/").and_then(|path| path.split_once('/'));
            let Some((_, file)) = path.filter(|(revision, _)| known.contains(revision)) else {
                return ScriptedResponse::status(404).with_header("x-error-code", "RevisionNotFound");
            };
            match (file, config, linked_etag) {
                ("config.json", Some(config), _) => ScriptedResponse::whole(config.to_string().as_bytes()),
                ("model.safetensors", _, Some(etag)) => {
                    ScriptedResponse::redirect(302, &format!("{storage_address}/signed"))
                        .with_header("x-linked-etag", etag)
                        .with_header("x-repo-commit", commit)
                }
                ("model.safetensors", ..) => ScriptedResponse::redirect(302, &format!("{storage_address}/signed")),
                _ => ScriptedResponse::status(404).with_header("x-error-code", "EntryNotFound"),
            }
        });
        Hub { service, storage }
    }

    /// Runs `trainer fetch` with a token, and returns the checkpoint and its stderr.
    ///
    /// # Panics
    /// Panics if it fails, or if it prints the token.
    pub fn expect_success(&self, folder: &Path, arguments: &[&str]) -> (Checkpoint, String) {
        let mut command = fetch(folder, &self.service.address(), arguments);
        let (path, stderr) = expect_success(command.env("HF_TOKEN", "hf_secret"));
        assert!(!stderr.contains("hf_secret"), "{stderr}");
        (Checkpoint::from_path(path).unwrap(), stderr)
    }

    /// Runs `trainer fetch` without a token, and returns its stderr.
    ///
    /// # Panics
    /// Panics if it succeeds.
    pub fn expect_failure(&self, folder: &Path, arguments: &[&str]) -> String {
        expect_failure(&mut fetch(folder, &self.service.address(), arguments))
    }
}

/// Returns the method and path of each request.
pub fn request_lines(server: &Server) -> Vec<String> {
    server.requests().iter().map(|Request { method, path, .. }| format!("{method} {path}")).collect()
}
