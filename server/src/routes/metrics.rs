//! `GET /metrics`: metrics for Prometheus.

use crate::app::App;
use crate::metrics::{Gauges, ModelGauges};
use crate::registry::Model;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use std::sync::Arc;

/// Content type of Prometheus' text format, version 0.0.4.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// Return the metrics of the server
///
/// The metrics are in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "Operations",
    responses((status = OK, description = "metrics in the text format of Prometheus", body = String))
)]
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let served = app.registry.current();
    let models: Vec<ModelGauges> = served.iter().map(|model| model_gauges(model)).collect();
    let failed_models: Vec<String> = app.registry.failures().into_keys().collect();
    let gauges = Gauges {
        models: &models,
        failed_models: &failed_models,
        decode_queue_depth: app.decode_pool.permits_in_use(),
        in_flight_bytes: app.memory.reserved(),
    };
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], app.metrics.encode(gauges))
}

fn model_gauges(model: &Model) -> ModelGauges<'_> {
    ModelGauges {
        name: model.name(),
        version: &model.id.version,
        architecture: model.metadata.architecture.name(),
        devices: &model.devices,
        is_ready: model.batcher.is_ready(),
        queue_depth: model.batcher.queue_depth().total(),
        weights_bytes: model.weights.len(),
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, photo, post};

    #[tokio::test]
    async fn requests_and_models_are_counted() {
        let app = app();
        app.registry.wait_until_ready().await.unwrap();
        post(&app, "/predict?model=small", "", photo(0)).await;
        post(&app, "/predict", "", "no photo").await;
        let text = get(&app, "/metrics").await.body;
        for line in [
            r#"shortcut_requests_total{model="small",route="/predict",status="200"} 1"#,
            r#"shortcut_requests_total{model="large",route="/predict",status="415"} 1"#,
            r#"shortcut_refusals_total{reason="unsupported_format"} 1"#,
            r#"shortcut_batch_size_bucket{model="small",le="1"} 1"#,
            r#"shortcut_queue_seconds_count{model="small"} 1"#,
            r#"shortcut_inference_seconds_count{model="small"} 1"#,
            r#"shortcut_decode_seconds_count 1"#,
            r#"shortcut_preprocess_seconds_count 1"#,
            r#"shortcut_request_seconds_count{route="/predict"} 2"#,
            r#"shortcut_model_ready{model="large"} 1"#,
            r#"shortcut_queue_depth{model="large"} 0"#,
            r#"shortcut_in_flight_bytes 0"#,
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        assert!(
            text.contains(r#"shortcut_model_info{architecture="resnet18",device="cpu",model="small",version=""#),
            "{text}"
        );
    }
}
