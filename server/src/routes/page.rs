//! Serves the web page, whose files are embedded in the program. The handler is the fallback for all unknown paths, and
//! responds with 404 to those without a file.
//!
//! `html5ever` was considered for finding inline scripts: the only document is our own page, as trunk writes it, so
//! that no complete HTML parser is needed.

use crate::error::ApiError;
use crate::static_asset::StaticAsset;
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::LazyLock;

/// The output of trunk; empty if the page was not built.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";
const NOT_BUILT: &str = "This server was built without the web page; `make run` builds both. \
    POST /predict and GET /models are available.\n";

/// Content security policy of the page: it may run its own scripts and compile WebAssembly, in the page and in its
/// worker, and show photos that the visitor chose. Inline scripts are allowed by their hashes.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let page = Dist::get(INDEX).map(|file| String::from_utf8_lossy(&file.data).into_owned()).unwrap_or_default();
    let hashes: String = inline_scripts(&page).map(|script| format!(" 'sha256-{}'", sha256_base64(script))).collect();
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{hashes}; img-src 'self' blob: data:; \
         worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
});

pub async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        path => path,
    };
    let mut response = match Dist::get(path) {
        _ if method != Method::GET && method != Method::HEAD => return not_found(&uri),
        Some(file) => embedded_asset(path, file).respond(&method, &headers),
        None if path == INDEX => NOT_BUILT.into_response(),
        None => return not_found(&uri),
    };
    // On all files, because the policy of a worker is that of the response with its script.
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
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

fn not_found(uri: &Uri) -> Response {
    ApiError::not_found(format!("{} not found", uri.path())).into_response()
}

fn embedded_asset(path: &str, file: EmbeddedFile) -> StaticAsset {
    let hash = hex::encode(file.metadata.sha256_hash());
    let bytes = match file.data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let new = if has_hashed_name(path) { StaticAsset::immutable } else { StaticAsset::revalidated };
    new(bytes, file.metadata.mimetype(), &hash)
}

/// Returns whether a file name contains a hash of the content, as trunk's do: `page-1f2e3d4c5b6a7988_bg.wasm`.
fn has_hashed_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_hash = |part: &str| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split('-').skip(1).any(|part| is_hash(part.split(['.', '_']).next().unwrap_or(part)))
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

    #[test]
    fn only_names_with_a_hash_are_immutable() {
        for path in ["page-1f2e3d4c5b6a7988.js", "page-1f2e3d4c5b6a7988_bg.wasm", "css/style-f3e9a8b7c6d5e4.css"] {
            assert!(has_hashed_name(path), "{path}");
        }
        for path in
            ["index.html", "worker.js", "samples/cat.jpg", "a-facade.svg", "well-known-1f2e3d4c5b6a7988-not/x.js"]
        {
            assert!(!has_hashed_name(path), "{path}");
        }
    }
}
