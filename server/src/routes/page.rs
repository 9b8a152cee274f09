//! `GET /` and whatever else of the page the program carries; anything else is not found.

use crate::content::Content;
use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::LazyLock;

/// What trunk built; empty when it built nothing.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";
const NOT_BUILT: &str =
    "This server was built without its page; `make run` builds both. POST /predict and GET /models answer.\n";

/// What the page may do: run its own scripts and compile WebAssembly, in the page and in its worker; show photos that the visitor
/// chose. The scripts that are within it are named by their hashes.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let page = Dist::get(INDEX).map(|file| String::from_utf8_lossy(&file.data).into_owned()).unwrap_or_default();
    let hashes: String = inline_scripts(&page).map(|script| format!(" 'sha256-{}'", base64_of_hash(script))).collect();
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{hashes}; img-src 'self' blob: data:; \
         worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&policy).expect("hashes are visible ASCII")
});

pub async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        path => path,
    };
    let mut response = match Dist::get(path) {
        _ if method != Method::GET && method != Method::HEAD => return not_found(&uri),
        Some(file) => content(path, file).respond(&method, &headers),
        None if path == INDEX => NOT_BUILT.into_response(),
        None => return not_found(&uri),
    };
    // A worker's script too has what its own answer says.
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// What stands between the tags of scripts that have no address.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    html.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

fn base64_of_hash(script: &str) -> String {
    STANDARD.encode(Sha256::digest(script))
}

fn not_found(uri: &Uri) -> Response {
    ApiError::not_found(format!("there is nothing at {}", uri.path())).respond_at(uri.path())
}

fn content(path: &str, file: EmbeddedFile) -> Content {
    let hash = file.metadata.sha256_hash().iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    });
    let bytes = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let keep = if names_its_hash(path) { Content::immutable } else { Content::revalidated };
    keep(bytes, file.metadata.mimetype(), &hash)
}

/// trunk writes `page-1f2e3d4c5b6a7988_bg.wasm`: name, dash, hash of the content in hexadecimal.
fn names_its_hash(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_hash = |part: &str| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split('-').skip(1).any(|part| is_hash(part.split(['.', '_']).next().unwrap_or(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_within_the_page_are_found() {
        let html = "<script src=\"a.js\"></script><script type=\"module\">one\n</script><p></p><script>two</script>";
        assert_eq!(inline_scripts(html).collect::<Vec<_>>(), ["one\n", "two"]);
        // As browsers and `openssl dgst -sha256 -binary | base64` say.
        assert_eq!(base64_of_hash("alert('Hello, world.');"), "qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn only_names_with_a_hash_are_immutable() {
        for path in ["page-1f2e3d4c5b6a7988.js", "page-1f2e3d4c5b6a7988_bg.wasm", "css/style-f3e9a8b7c6d5e4.css"] {
            assert!(names_its_hash(path), "{path}");
        }
        for path in
            ["index.html", "worker.js", "samples/cat.jpg", "a-facade.svg", "well-known-1f2e3d4c5b6a7988-not/x.js"]
        {
            assert!(!names_its_hash(path), "{path}");
        }
    }
}
