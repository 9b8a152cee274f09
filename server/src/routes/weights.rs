//! `GET /weights/{sha256}`: a checkpoint, whole or in part, at an address under which it never changes.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use model::prediction::Failure;
use std::sync::Arc;

/// A checkpoint (safetensors)
///
/// Whole, or the part that `Range` asks for. What lies at an address never changes.
#[utoipa::path(
    get, path = "/weights/{sha256}", tag = "Models",
    params(("sha256" = String, Path, description = "as `/models` gives it")),
    responses(
        (status = OK, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = PARTIAL_CONTENT, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = NOT_MODIFIED, description = "what If-None-Match names is what lies here"),
        (status = BAD_REQUEST, body = Failure), (status = NOT_FOUND, body = Failure),
        (status = RANGE_NOT_SATISFIABLE, body = Failure),
    )
)]
pub async fn weights(
    State(app): State<Arc<App>>,
    sha256: Result<Path<String>, PathRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(sha256) = sha256.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let served = app.registry.current();
    let model = served.iter().find(|model| model.id.version == sha256);
    let model = model.ok_or_else(|| ApiError::not_found("no model has weights of this hash; /models lists them"))?;
    Ok(model.weights.respond(&method, &headers))
}

#[cfg(test)]
mod tests {
    use crate::fixture::{answer, app, get};
    use axum::body::Body;
    use axum::http::{Request, header};
    use sha2::{Digest, Sha256};

    fn address(content: &str) -> String {
        let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("/weights/{hash}")
    }

    #[tokio::test]
    async fn weights_lie_at_their_hash() {
        let answer = get(&app(), &address("large")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "large"));
    }

    #[tokio::test]
    async fn their_size_is_told_without_them() {
        let answer = answer(&app(), Request::head(address("large")).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert_eq!(answer.headers[header::CONTENT_LENGTH], "5");
    }

    #[tokio::test]
    async fn other_hashes_are_not_found() {
        for path in [&address("medium"), "/weights/large", "/weights/%ff"] {
            let answer = get(&app(), path).await;
            assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
            answer.code();
        }
    }
}
