//! The files of the web page: embedded in the program, or read from a folder (`--page`) that is being built or edited.
//!
//! `html5ever` was considered for finding inline scripts: the only document is our own page, so that no complete HTML
//! parser is needed.

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

/// Name of the document.
pub const INDEX: &str = "index.html";

/// The output of `make page`; empty if the page was not built before the server.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

/// The policy of the embedded page.
static EMBEDDED_POLICY: LazyLock<HeaderValue> =
    LazyLock::new(|| policy(&Dist::get(INDEX).map(|file| file.data).unwrap_or_default()));

/// Source of the files.
pub enum PageFiles {
    Embedded,
    /// Files are read for each request, because the folder may change.
    Folder(PathBuf),
}

/// A file of the page.
pub struct PageFile {
    pub bytes: Bytes,
    pub content_type: String,
    /// SHA-256 of the bytes, in hexadecimal digits.
    pub hash: String,
}

impl PageFiles {
    pub fn new(folder: Option<PathBuf>) -> Self {
        folder.map_or(PageFiles::Embedded, PageFiles::Folder)
    }

    /// Returns whether the page is available.
    pub fn is_available(&self) -> bool {
        match self {
            PageFiles::Embedded => Dist::get(INDEX).is_some(),
            PageFiles::Folder(folder) => folder.join(INDEX).is_file(),
        }
    }

    /// Returns a file by its path below the page, or `None` if there is none.
    pub async fn get(&self, path: &str) -> Option<PageFile> {
        match self {
            PageFiles::Embedded => {
                let file = Dist::get(path)?;
                let hash = hex::encode(file.metadata.sha256_hash());
                let content_type = file.metadata.mimetype().to_owned();
                let bytes = match file.data {
                    Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                    Cow::Owned(bytes) => bytes.into(),
                };
                Some(PageFile { bytes, content_type, hash })
            }
            PageFiles::Folder(folder) => {
                let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                let bytes = tokio::fs::read(is_below.then(|| folder.join(path))?).await.ok()?;
                let content_type = mime_guess::from_path(path).first_or_octet_stream().to_string();
                let hash = hex::encode(Sha256::digest(&bytes));
                Some(PageFile { bytes: bytes.into(), content_type, hash })
            }
        }
    }

    /// Returns the Content-Security-Policy of all files.
    pub async fn policy(&self) -> HeaderValue {
        match self {
            PageFiles::Embedded => EMBEDDED_POLICY.clone(),
            PageFiles::Folder(folder) => policy(&tokio::fs::read(folder.join(INDEX)).await.unwrap_or_default()),
        }
    }
}

/// Returns a policy for a document: it may run its own scripts and compile WebAssembly, in the page and in its worker, and
/// show photos that the visitor chose. Inline scripts are allowed by their hashes.
fn policy(document: &[u8]) -> HeaderValue {
    let document = String::from_utf8_lossy(document);
    let hashes: String =
        inline_scripts(&document).map(|script| format!(" 'sha256-{}'", sha256_base64(script))).collect();
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{hashes}; img-src 'self' blob: data:; \
         worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
}

/// Returns the content of all inline scripts.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

fn sha256_base64(script: &str) -> String {
    STANDARD.encode(Sha256::digest(script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_are_found() {
        let html = "<script src=\"a.js\"></script><script type=\"module\">one\n</script><p></p><script>two</script>";
        assert_eq!(inline_scripts(html).collect::<Vec<_>>(), ["one\n", "two"]);
        // The value that browsers and `openssl dgst -sha256 -binary | base64` compute.
        assert_eq!(sha256_base64("alert('Hello, world.');"), "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[tokio::test]
    async fn only_files_below_the_folder_are_read() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("page");
        std::fs::create_dir_all(folder.join("samples")).unwrap();
        std::fs::write(root.path().join("secret.txt"), "secret").unwrap();
        std::fs::write(folder.join("samples/cat.jpg"), "a cat").unwrap();
        let files = PageFiles::new(Some(folder));
        let cat = files.get("samples/cat.jpg").await.unwrap();
        assert_eq!((&cat.bytes[..], cat.content_type.as_str()), (&b"a cat"[..], "image/jpeg"));
        let absolute = root.path().join("secret.txt");
        for path in ["../secret.txt", "samples/../../secret.txt", absolute.to_str().unwrap(), "samples", "absent", ""] {
            assert!(files.get(path).await.is_none(), "{path}");
        }
    }
}
