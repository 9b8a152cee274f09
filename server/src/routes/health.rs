//! `GET /healthz`: the process answers. `GET /readyz`: so would every model.

use crate::app::App;
use crate::error::ApiError;
use axum::extract::State;
use std::sync::Arc;

pub async fn alive() -> &'static str {
    "ok\n"
}

pub async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    let cold: Vec<_> =
        app.registry.iter().filter(|model| !model.engine.is_ready()).map(|model| model.name.as_str()).collect();
    if cold.is_empty() { Ok("ready\n") } else { Err(ApiError::not_ready(format!("not ready: {}", cold.join(", ")))) }
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
    async fn a_model_that_cannot_get_ready_is_never_said_to_be() {
        let (model, go) = cold_model("broken");
        let app = app_of(model);
        drop(go);
        assert!(app.registry.prepared().await.unwrap_err().to_string().contains("broken"));
        assert_eq!(get(&app, "/readyz").await.status, 503);
    }
}
