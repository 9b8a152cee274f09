//! `GET /healthz`: the process answers. `GET /readyz`: so would every model.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::State;
use model::prediction::Failure;
use std::sync::Arc;

/// Whether the process answers
#[utoipa::path(get, path = "/healthz", tag = "Operating", responses((status = OK, body = String)))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// Whether every model would answer
///
/// Not while the server is stopping, so that nobody sends it more.
#[utoipa::path(
    get, path = "/readyz", tag = "Operating",
    responses((status = OK, body = String), (status = SERVICE_UNAVAILABLE, body = Failure))
)]
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    readiness(&app).map(|()| "ready\n")
}

/// Why not, if not.
pub fn readiness(app: &App) -> Result<(), ApiError> {
    if app.is_stopping() {
        return Err(ApiError::not_ready("the server is stopping"));
    }
    let models = app.registry.current();
    let cold: Vec<_> = models.iter().filter(|model| !model.batcher.is_ready()).map(|model| model.name()).collect();
    if cold.is_empty() { Ok(()) } else { Err(ApiError::not_ready(format!("not ready: {}", cold.join(", ")))) }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app_of, cold_model, get};

    #[tokio::test]
    async fn ready_is_said_only_when_every_model_is() {
        let (model, go) = cold_model("slow");
        let app = app_of(model);
        assert_eq!(get(&app, "/healthz").await.status, 200);
        let answer = get(&app, "/readyz").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "not_ready"));
        assert!(answer.body.contains("slow"), "{}", answer.body);

        go.send(()).unwrap();
        app.registry.prepared().await.unwrap();
        assert_eq!(get(&app, "/readyz").await.status, 200);
        assert_eq!(get(&app, "/healthz").await.status, 200);
    }

    #[tokio::test]
    async fn who_stops_is_not_ready() {
        let app = crate::fixture::app();
        app.stop();
        assert_eq!(get(&app, "/readyz").await.status, 503);
        assert_eq!(get(&app, "/healthz").await.status, 200);
    }

    #[tokio::test]
    async fn a_model_that_cannot_get_ready_is_never_said_to_be() {
        let (model, go) = cold_model("broken");
        let app = app_of(model);
        drop(go);
        assert!(app.registry.prepared().await.unwrap_err().to_string().contains("broken"));
        assert_eq!(get(&app, "/readyz").await.status, 503);
    }
}
