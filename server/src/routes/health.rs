//! `GET /healthz`: the process does its work. `GET /readyz`: every model would answer.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::State;
use model::prediction::Failure;
use std::sync::Arc;

/// Whether the process does its work
///
/// Not if an engine has ended: nothing but another process brings it back.
#[utoipa::path(
    get, path = "/healthz", tag = "Operating",
    responses((status = OK, body = String), (status = SERVICE_UNAVAILABLE, body = Failure))
)]
pub async fn alive(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    liveness(&app).map(|()| "ok\n")
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

/// Why the process does not do its work, if it does not.
pub fn liveness(app: &App) -> Result<(), ApiError> {
    match app.registry.current().iter().find(|model| !model.batcher.is_whole()) {
        Some(model) => Err(ApiError::not_ready(format!("an engine of {} has ended", model.name()))),
        None => Ok(()),
    }
}

/// Why not every model would answer, if not.
pub fn readiness(app: &App) -> Result<(), ApiError> {
    if app.is_stopping() {
        return Err(ApiError::not_ready("the server is stopping"));
    }
    let models = app.registry.current();
    let cold: Vec<_> = models.iter().filter(|model| !model.batcher.is_ready()).map(|model| model.name()).collect();
    match models.iter().next() {
        None => Err(ApiError::not_ready("there is no model at the moment")),
        Some(_) if cold.is_empty() => Ok(()),
        Some(_) => Err(ApiError::not_ready(format!("not ready: {}", cold.join(", ")))),
    }
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
