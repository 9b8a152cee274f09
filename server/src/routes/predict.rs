//! `POST /predict`: what the photos of a request show.

use crate::app::App;
use crate::error::ApiError;
use crate::photos::Photos;
use crate::registry::Model;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use model::prediction::{Outcome, Prediction, Results};
use serde::Deserialize;
use std::sync::Arc;

/// How many classes an answer names if nobody says.
const TOP_K: usize = 5;

#[derive(Deserialize)]
pub struct Options {
    /// How many classes to name; more than there are names all.
    top_k: Option<String>,
    /// The model to ask, if not the default.
    model: Option<String>,
}

/// One photo: a [`Prediction`], or its failure with the status of it. Several: [`Results`].
///
/// The photos are read before anything is refused, for a client that is still sending would not see why.
pub async fn predict(
    State(app): State<Arc<App>>,
    options: Result<Query<Options>, QueryRejection>,
    Photos(mut photos): Photos,
) -> Result<Response, ApiError> {
    let Query(options) = options.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let top_k = options.top_k()?;
    let model = app.registry.get(options.model.as_deref())?;
    if photos.len() == 1 {
        let photo = photos.remove(0);
        return Ok(Json(classify(&app, model, photo, top_k).await?).into_response());
    }
    let outcomes = photos.into_iter().map(async |photo| match classify(&app, model, photo, top_k).await {
        Ok(prediction) => Outcome::Prediction(prediction),
        Err(error) => Outcome::Failure(error.into_failure()),
    });
    Ok(Json(Results { results: join_all(outcomes).await }).into_response())
}

async fn classify(
    app: &App,
    model: &Model,
    photo: Result<Bytes, ApiError>,
    top_k: usize,
) -> Result<Prediction, ApiError> {
    let prepared = app.preparation.prepare(photo?, model.metadata.clone()).await?;
    let answer = model.engine.classify(prepared, top_k).await;
    answer.map_err(|reason| ApiError::internal(format_args!("model {:?}: {reason}", model.name)))
}

impl Options {
    fn top_k(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.top_k else { return Ok(TOP_K) };
        match text.parse() {
            Ok(0) | Err(_) => Err(ApiError::malformed(format!("top_k={text}: a whole number from 1 is expected"))),
            Ok(top_k) => Ok(top_k),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::app::UploadLimits;
    use crate::fixture::{self, Answer, FakeClassifier, form, photo};

    const JPEG: &str = "image/jpeg";

    async fn post(path: &str, body: Vec<u8>) -> Answer {
        fixture::post(&fixture::app(), path, JPEG, body).await
    }

    #[tokio::test]
    async fn one_photo_gets_a_prediction() {
        let answer = post("/predict", photo(7)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let prediction = answer.json();
        assert_eq!(prediction["predictions"][0]["index"], 7);
        assert_eq!(prediction["predictions"].as_array().unwrap().len(), 5);
        assert!(prediction["timing_ms"]["queue"].as_f64().unwrap() > 0.0, "{prediction}");
    }

    #[tokio::test]
    async fn several_photos_get_results_in_their_order() {
        let (content_type, body) = form(&[("file", &photo(1)), ("file", b"no photo"), ("file", &photo(3))]);
        let answer = fixture::post(&fixture::app(), "/predict?top_k=1", content_type, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let results = answer.json();
        assert_eq!(results["results"][0]["predictions"][0]["index"], 1);
        assert_eq!(results["results"][1]["error"]["code"], "unsupported_format");
        assert_eq!(results["results"][2]["predictions"][0]["index"], 3);
        assert_eq!(results["results"].as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn top_k_is_a_whole_number_from_one() {
        for top_k in ["0", "-1", "1.5", "five", "", "99999999999999999999999"] {
            let answer = post(&format!("/predict?top_k={top_k}"), photo(0)).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "malformed_request"), "{top_k:?}");
        }
        let answer = post("/predict?top_k=1&top_k=2", photo(0)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed_request"));
    }

    #[tokio::test]
    async fn a_model_is_asked_by_name() {
        assert_eq!(post("/predict?model=small", photo(0)).await.status, 200);
        let answer = post("/predict?model=medium", photo(0)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "unknown_model"));
        assert!(answer.body.contains("small, large"), "{}", answer.body);
    }

    #[tokio::test]
    async fn the_failure_of_a_single_photo_has_its_status() {
        for (body, status, code) in [
            (Vec::new(), 400, "nothing_to_classify"),
            (b"no photo".to_vec(), 415, "unsupported_format"),
            (photo(0)[..40].to_vec(), 422, "undecodable"),
        ] {
            let answer = post("/predict", body).await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code));
        }
        let app = fixture::app_with_limits(UploadLimits { photo: 10, ..UploadLimits::default() });
        let answer = fixture::post(&app, "/predict", JPEG, photo(0)).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    }

    #[tokio::test]
    async fn what_went_wrong_inside_stays_inside() {
        for classifier in [FakeClassifier::Fails, FakeClassifier::Panics] {
            let app = fixture::app_of(fixture::model_with("broken", 2, classifier));
            let answer = fixture::post(&app, "/predict", JPEG, photo(0)).await;
            assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
            assert!(!answer.body.contains("secret"), "{}", answer.body);
        }
    }
}
