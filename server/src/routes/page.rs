//! `GET /` and whatever else of the page the program carries; anything else is not found.

use crate::content::Content;
use crate::error::ApiError;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;
use std::fmt::Write;

/// What trunk built; empty when it built nothing.
#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

const INDEX: &str = "index.html";
const NOT_BUILT: &str =
    "This server was built without its page; `make run` builds both. POST /predict and GET /models answer.\n";

pub async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        path => path,
    };
    match Dist::get(path) {
        _ if method != Method::GET && method != Method::HEAD => not_found(&uri),
        Some(file) => content(path, file).respond(&method, &headers),
        None if path == INDEX => NOT_BUILT.into_response(),
        None => not_found(&uri),
    }
}

fn not_found(uri: &Uri) -> Response {
    ApiError::not_found(format!("there is nothing at {}", uri.path())).into_response()
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
