//! `GET /weights/{sha256}`: serves a checkpoint, whole or in part, at a URL whose content never changes.

use crate::app::App;
use crate::error::ApiError;
use crate::routes::path::Path;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use model::prediction::Failure;
use std::sync::Arc;

/// Download a checkpoint (safetensors)
///
/// Supports `Range`. The content of a URL never changes.
#[utoipa::path(
    get, path = "/weights/{sha256}", tag = "Models",
    params(("sha256" = String, Path, description = "SHA-256 of the checkpoint, as listed by `/models`")),
    responses(
        (status = OK, description = "the checkpoint", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, description = "the requested range of the checkpoint", body = Vec<u8>,
            content_type = "application/octet-stream"),
        (status = NOT_MODIFIED, description = "If-None-Match matches the checkpoint"),
        (status = BAD_REQUEST, description = "invalid request", body = Failure),
        (status = NOT_FOUND, description = "no served model has these weights", body = Failure),
        (status = RANGE_NOT_SATISFIABLE, description = "range beyond the end of the checkpoint", body = Failure),
    )
)]
pub async fn weights(
    State(app): State<Arc<App>>,
    Path(sha256): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let served = app.registry.current();
    let model = served.iter().find(|model| model.id.version == sha256);
    let model =
        model.ok_or_else(|| ApiError::not_found("no served model has weights with this SHA-256; see /models"))?;
    Ok(model.weights.respond(&method, &headers))
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, send};
    use axum::body::Body;
    use axum::http::{Request, header};
    use sha2::{Digest, Sha256};

    fn weights_path(content: &str) -> String {
        format!("/weights/{}", hex::encode(Sha256::digest(content)))
    }

    #[tokio::test]
    async fn weights_are_served_at_their_hash() {
        let response = get(&app(), &weights_path("large")).await;
        assert_eq!((response.status, response.body.as_str()), (200, "large"));
    }

    #[tokio::test]
    async fn head_returns_the_size() {
        let response = send(&app(), Request::head(weights_path("large")).body(Body::empty()).unwrap()).await;
        assert_eq!((response.status, response.body.as_str()), (200, ""));
        assert_eq!(response.headers[header::CONTENT_LENGTH], "5");
    }

    #[tokio::test]
    async fn unknown_hashes_are_not_found() {
        for path in [&weights_path("medium"), "/weights/large", "/weights/%ff"] {
            let response = get(&app(), path).await;
            assert!([400, 404].contains(&response.status), "{path}: {}", response.status);
            response.code();
        }
    }
}
