//! `GET /healthz`: liveness of the process. `GET /readyz`: readiness of all models.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::State;
use model::prediction::Failure;
use std::sync::Arc;

/// Check whether the process is alive
///
/// Fails if the thread of an engine has stopped, which only a restart of the process can fix.
#[utoipa::path(
    get, path = "/healthz", tag = "Operations",
    responses(
        (status = OK, description = "all engines are running", body = String),
        (status = SERVICE_UNAVAILABLE, description = "an engine has stopped", body = Failure),
    )
)]
pub async fn alive(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    check_liveness(&app).map(|()| "ok\n")
}

/// Check whether all models are ready
///
/// Fails while the server is shutting down, so that load balancers stop sending requests.
#[utoipa::path(
    get, path = "/readyz", tag = "Operations",
    responses(
        (status = OK, description = "all models are ready", body = String),
        (status = SERVICE_UNAVAILABLE, description = "a model is missing or not ready, or the server is shutting down",
            body = Failure),
    )
)]
pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    check_readiness(&app).map(|()| "ready\n")
}

/// Checks that the threads of all engines are running.
///
/// # Errors
/// Returns 503 if one has stopped.
pub fn check_liveness(app: &App) -> Result<(), ApiError> {
    match app.registry.current().iter().find(|model| !model.batcher.is_alive()) {
        Some(model) => {
            Err(ApiError::not_ready(format!("an engine of model {:?} has stopped; restart the server", model.name())))
        }
        None => Ok(()),
    }
}

/// Checks that the server accepts requests and that all models are ready.
///
/// # Errors
/// Returns 503 if it is shutting down, or if a model is missing or not ready.
pub fn check_readiness(app: &App) -> Result<(), ApiError> {
    if app.is_shutting_down() {
        return Err(ApiError::not_ready("the server is shutting down"));
    }
    let models = app.registry.current();
    let not_ready: Vec<_> = models.iter().filter(|model| !model.batcher.is_ready()).map(|model| model.name()).collect();
    match models.iter().next() {
        None => Err(ApiError::not_ready("no model is loaded")),
        Some(_) if not_ready.is_empty() => Ok(()),
        Some(_) => Err(ApiError::not_ready(format!("models that are not ready: {}", not_ready.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app_with_model, get, loading_model};

    #[tokio::test]
    async fn server_is_ready_once_all_models_are() {
        let (model, go) = loading_model("slow");
        let app = app_with_model(model);
        assert_eq!(get(&app, "/healthz").await.status, 200);
        let response = get(&app, "/readyz").await;
        assert_eq!((response.status, response.code().as_str()), (503, "not_ready"));
        assert!(response.body.contains("slow"), "{}", response.body);

        go.send(()).unwrap();
        app.registry.wait_until_ready().await.unwrap();
        assert_eq!(get(&app, "/readyz").await.status, 200);
        assert_eq!(get(&app, "/healthz").await.status, 200);
    }

    #[tokio::test]
    async fn server_that_shuts_down_is_not_ready() {
        let app = crate::fixture::app();
        app.begin_shutdown();
        assert_eq!(get(&app, "/readyz").await.status, 503);
        assert_eq!(get(&app, "/healthz").await.status, 200);
    }

    #[tokio::test]
    async fn model_that_fails_to_load_is_never_ready() {
        let (model, go) = loading_model("broken");
        let app = app_with_model(model);
        drop(go);
        assert!(app.registry.wait_until_ready().await.unwrap_err().to_string().contains("broken"));
        assert_eq!(get(&app, "/readyz").await.status, 503);
    }
}
