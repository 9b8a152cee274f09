//! Triton's statistics extension: how many images a model has processed since it was loaded, and how long that took.

use super::error::InferenceError;
use crate::app::App;
use crate::batching::{DurationSum, StatisticsSnapshot};
use crate::error::ApiError;
use crate::inference;
use crate::registry::Model;
use crate::routes::path::Path;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Statistics {
    model_stats: Vec<ModelStatistics>,
}

/// Statistics of a model since it was loaded. They include photos of `/predict`.
#[derive(Serialize, ToSchema)]
struct ModelStatistics {
    name: String,
    /// SHA-256 of the checkpoint.
    version: String,
    /// Start of the last batch, in milliseconds since 1970; 0 if there was none.
    last_inference: u64,
    /// Number of images with a result.
    inference_count: u64,
    /// Number of batches.
    execution_count: u64,
    inference_stats: InferenceStatistics,
    batch_stats: Vec<BatchStatistics>,
}

/// Durations of images, not of requests as in Triton, which differ for requests with several images.
#[derive(Serialize, ToSchema)]
struct InferenceStatistics {
    /// Images with a result: queue and inference.
    success: DurationStatistics,
    /// Images that failed.
    fail: DurationStatistics,
    /// Time until the batch of an image starts.
    queue: DurationStatistics,
    /// Always zero: inputs are prepared before they are queued.
    compute_input: DurationStatistics,
    /// Duration of the batch of an image.
    compute_infer: DurationStatistics,
    /// Always zero: outputs are part of `compute_infer`.
    compute_output: DurationStatistics,
    /// Always zero: there is no cache.
    cache_hit: DurationStatistics,
    /// Always zero: there is no cache.
    cache_miss: DurationStatistics,
}

/// Batches of one size.
#[derive(Serialize, ToSchema)]
struct BatchStatistics {
    batch_size: usize,
    compute_input: DurationStatistics,
    compute_infer: DurationStatistics,
    compute_output: DurationStatistics,
}

#[derive(Default, Serialize, ToSchema)]
struct DurationStatistics {
    count: u64,
    /// Sum of the durations in nanoseconds.
    ns: u64,
}

/// Return the statistics of all models
#[utoipa::path(
    get, path = "/v2/models/stats", operation_id = "statistics_of_all", tag = "Open Inference Protocol",
    responses((status = OK, description = "statistics of all models", body = Statistics))
)]
pub async fn all(State(app): State<Arc<App>>) -> Json<Statistics> {
    let served = app.registry.current();
    Json(Statistics { model_stats: served.iter().map(|model| ModelStatistics::new(model)).collect() })
}

/// Return the statistics of a model
#[utoipa::path(
    get, path = "/v2/models/{model}/stats", operation_id = "statistics_of_model", tag = "Open Inference Protocol",
    params(("model" = String, Path, description = "Name of the model, as listed by `/models`")),
    responses(
        (status = OK, description = "statistics of the model", body = Statistics),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model", body = InferenceError),
    )
)]
pub async fn of_model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Statistics>, ApiError> {
    find(&app, &name, None)
}

/// Return the statistics of a version of a model
#[utoipa::path(
    get, path = "/v2/models/{model}/versions/{version}/stats", operation_id = "statistics_of_version",
    tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "Name of the model, as listed by `/models`"),
        ("version" = String, Path, description = "SHA-256 of the checkpoint, or at least its first eight digits; `1` is the current version"),
    ),
    responses(
        (status = OK, description = "statistics of the model", body = Statistics),
        (status = BAD_REQUEST, description = "invalid request", body = InferenceError),
        (status = NOT_FOUND, description = "unknown model or version", body = InferenceError),
    )
)]
pub async fn of_version(
    State(app): State<Arc<App>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<Statistics>, ApiError> {
    find(&app, &name, Some(&version))
}

fn find(app: &App, name: &str, version: Option<&str>) -> Result<Json<Statistics>, ApiError> {
    let model = inference::find_model(&app.registry, Some(name), version)?;
    Ok(Json(Statistics { model_stats: vec![ModelStatistics::new(&model)] }))
}

impl ModelStatistics {
    fn new(model: &Model) -> Self {
        let StatisticsSnapshot { queue, inference, failure, batches, last_batch } = model.batcher.statistics();
        let success = DurationSum { count: inference.count, total: queue.total + inference.total };
        let since_1970 = last_batch.and_then(|start| start.duration_since(UNIX_EPOCH).ok());
        let zero = DurationStatistics::default;
        ModelStatistics {
            name: model.name().to_owned(),
            version: model.id.version.clone(),
            last_inference: since_1970.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            inference_count: inference.count,
            execution_count: batches.values().map(|batches| batches.count).sum(),
            inference_stats: InferenceStatistics {
                success: success.into(),
                fail: failure.into(),
                queue: queue.into(),
                compute_input: zero(),
                compute_infer: inference.into(),
                compute_output: zero(),
                cache_hit: zero(),
                cache_miss: zero(),
            },
            batch_stats: batches
                .into_iter()
                .map(|(batch_size, batches)| BatchStatistics {
                    batch_size,
                    compute_input: zero(),
                    compute_infer: batches.into(),
                    compute_output: zero(),
                })
                .collect(),
        }
    }
}

impl From<DurationSum> for DurationStatistics {
    fn from(DurationSum { count, total }: DurationSum) -> Self {
        DurationStatistics { count, ns: u64::try_from(total.as_nanos()).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, photo, post};

    #[tokio::test]
    async fn images_and_batches_are_counted_for_each_model() {
        let app = app();
        for _ in 0..3 {
            assert_eq!(post(&app, "/predict?model=small", "", photo(0)).await.status, 200);
        }
        let statistics = get(&app, "/v2/models/small/versions/1/stats").await.json()["model_stats"][0].take();
        assert_eq!(statistics["name"], "small");
        assert_eq!([&statistics["inference_count"], &statistics["execution_count"]], [3, 3]);
        assert!(statistics["last_inference"].as_u64().unwrap() > 1_700_000_000_000, "{statistics}");
        let (durations, batch) = (&statistics["inference_stats"], &statistics["batch_stats"][0]);
        for name in ["success", "queue", "compute_infer"] {
            assert_eq!(durations[name]["count"], 3, "{name}");
            assert!(durations[name]["ns"].as_u64().unwrap() > 0, "{name}");
        }
        assert_eq!(durations["fail"]["count"], 0);
        assert_eq!([&batch["batch_size"], &batch["compute_infer"]["count"]], [1, 3]);

        assert_eq!(get(&app, "/v2/models/small/stats").await.json()["model_stats"][0], statistics);
        let all = get(&app, "/v2/models/stats").await.json();
        assert_eq!(all["model_stats"][0], statistics);
        assert_eq!(all["model_stats"][1]["inference_count"], 0);
        for path in ["/v2/models/medium/stats", "/v2/models/small/versions/2/stats"] {
            assert_eq!(get(&app, path).await.status, 404, "{path}");
        }
    }
}
