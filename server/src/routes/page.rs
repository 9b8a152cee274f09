//! Serves the web page. The handler is the fallback for all unknown paths, and responds with 404 to those without a file.

use crate::app::App;
use crate::error::ApiError;
use crate::page_files::{INDEX, PageFile, PageFiles};
use crate::static_asset::StaticAsset;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use std::sync::Arc;

const NOT_BUILT: &str = "This server was built without the web page; `make install` builds both. \
    POST /predict and GET /models are available.\n";

/// Shown while the folder of the page does not exist. Browsers load it again after the time in the header `Refresh`.
const BEING_BUILT: &str = "<!doctype html><meta charset=\"utf-8\"><title>Shortcut</title>\
    <p>The page is being built and will appear here. POST /predict and GET /models are available already. \
    If the build failed, the terminal in which it runs says why.</p>\n";
const REFRESH: HeaderName = HeaderName::from_static("refresh");
const REFRESH_SECONDS: &str = "3";

pub async fn page(State(app): State<Arc<App>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => INDEX,
        path => path,
    };
    if method != Method::GET && method != Method::HEAD {
        return not_found(&uri);
    }
    let mut response = match app.page.get(path).await {
        Some(file) => asset(path, file).respond(&method, &headers),
        None if path == INDEX => unavailable(&app.page),
        None => return not_found(&uri),
    };
    // On all files, because the policy of a worker is that of the response with its script.
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, app.page.policy().await);
    response
}

fn unavailable(files: &PageFiles) -> Response {
    match files {
        PageFiles::Embedded => NOT_BUILT.into_response(),
        PageFiles::Folder(_) => {
            let headers = [(header::RETRY_AFTER, REFRESH_SECONDS), (REFRESH, REFRESH_SECONDS)];
            (StatusCode::SERVICE_UNAVAILABLE, headers, Html(BEING_BUILT)).into_response()
        }
    }
}

fn not_found(uri: &Uri) -> Response {
    ApiError::not_found(format!("{} not found", uri.path())).into_response()
}

fn asset(path: &str, file: PageFile) -> StaticAsset {
    let new = if has_hashed_name(path) { StaticAsset::immutable } else { StaticAsset::revalidated };
    new(file.bytes, &file.content_type, &file.hash)
}

/// Returns whether a file name contains a hash of the content: `page-1f2e3d4c5b6a7988_bg.wasm`.
fn has_hashed_name(path: &str) -> bool {
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
            assert!(has_hashed_name(path), "{path}");
        }
        for path in
            ["index.html", "worker.js", "samples/cat.jpg", "a-facade.svg", "well-known-1f2e3d4c5b6a7988-not/x.js"]
        {
            assert!(!has_hashed_name(path), "{path}");
        }
    }
}
