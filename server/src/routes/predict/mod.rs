//! `POST /predict`: classifies the photos of a request.

mod accept;
mod feature_maps;
mod options;

use crate::app::App;
use crate::decode_pool::DecodePermit;
use crate::error::ApiError;
use crate::inference;
use crate::memory::Reservation;
use crate::middleware::hold_memory::ReservedUntilSent;
use crate::middleware::observe::{PhaseTimings, RequestedModel};
use crate::registry::Model;
use crate::upload::{self, JsonPhotos, UploadedPhotos};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use feature_maps::FeatureMaps;
use futures_util::future::try_join_all;
use model::classifier::PreparedPhoto;
use model::engine::{Activation, Input};
use model::explain::{Explanation, overlay};
use model::prediction::{Failure, Prediction};
use model::preprocess::ImageBatch;
use options::{Explain, PredictOptions};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// The prediction for one photo.
#[derive(Serialize, ToSchema)]
#[schema(as = Answer)]
pub struct PhotoPrediction {
    #[serde(flatten)]
    prediction: Prediction,
    /// Present with `?explain=cam`.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
    /// Present with `?explain=feature-maps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    feature_maps: Option<FeatureMaps>,
}

/// The result for one of several photos.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
#[serde(untagged)]
enum PhotoResult {
    Answer(Box<PhotoPrediction>),
    Failure(Failure),
}

/// The results for several photos, in their order.
#[derive(Serialize, ToSchema)]
#[schema(as = Results)]
pub struct PhotoResults {
    results: Vec<PhotoResult>,
}

/// One or several photos.
#[derive(ToSchema)]
#[expect(dead_code, reason = "schema of a form that we parse ourselves")]
struct PhotoForm {
    /// A photo; repeat the field for several.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<u8>,
}

/// A prediction for one photo, or results for several.
#[derive(ToSchema)]
#[schema(as = AnswerOrResults)]
#[serde(untagged)]
#[expect(dead_code, reason = "schema of a response that is built from its variants")]
enum PredictResponse {
    Answer(Box<PhotoPrediction>),
    Results(PhotoResults),
}

/// Classify photos
///
/// JPEG, PNG, WebP, GIF and BMP are supported; the format is detected from the bytes. The response for one photo is a
/// prediction, or an error with its status. The response for several photos, or for a list in JSON, is a list of results
/// in the same order.
#[utoipa::path(
    post, path = "/predict", tag = "Predictions", params(PredictOptions),
    request_body(content(
        (PhotoForm = "multipart/form-data"),
        (JsonPhotos = "application/json"),
        (Vec<u8> = "image/*", example = "the bytes of a photo"),
    )),
    responses(
        (status = OK, description = "a prediction, or a list of results; as PNG, a class activation map or feature maps",
            content((PredictResponse = "application/json"), (Vec<u8> = "image/png"))),
        (status = BAD_REQUEST, description = "invalid request", body = Failure),
        (status = UNAUTHORIZED, description = "API key missing", body = Failure),
        (status = FORBIDDEN, description = "invalid API key", body = Failure),
        (status = NOT_FOUND, description = "unknown model", body = Failure),
        (status = NOT_ACCEPTABLE, description = "PNG requested for several photos", body = Failure),
        (status = REQUEST_TIMEOUT, description = "request body stalled", body = Failure),
        (status = PAYLOAD_TOO_LARGE, description = "request body or photo too large", body = Failure),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "unsupported photo format, or a compressed body", body = Failure),
        (status = UNPROCESSABLE_ENTITY, description = "undecodable photo", body = Failure),
        (status = INTERNAL_SERVER_ERROR, description = "internal error", body = Failure),
        (status = SERVICE_UNAVAILABLE, description = "server overloaded; see Retry-After", body = Failure),
        (status = GATEWAY_TIMEOUT, description = "timeout of the client (x-timeout-ms) or of the server exceeded", body = Failure),
    )
)]
pub async fn predict(
    State(app): State<Arc<App>>,
    options: Result<Query<PredictOptions>, QueryRejection>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, ApiError> {
    let UploadedPhotos { photos, is_list, options: body_options, reservation } =
        upload::read_photos(request, app.upload_limits, &app.memory, &app.decode_pool).await?;
    let Query(options) = options.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let options = options.merge(body_options)?;
    let (top_k, explain) = (options.top_k()?, options.explain()?);
    let model = inference::find_model(&app.registry, options.model.as_deref(), None)?;
    let requested_model = RequestedModel(model.name().to_owned());
    let upload_reservation = Arc::new(reservation);
    let classifier = PhotoClassifier { app, model, upload_reservation: upload_reservation.clone(), top_k, explain };
    let as_png = explain.is_some() && accept::prefers_png(&headers);
    let result = if is_list {
        classifier.classify_list(photos, as_png).await
    } else {
        classifier.classify_one(photos, as_png).await
    };
    let mut reserved = vec![upload_reservation];
    let mut response = match result {
        Ok((response, image_reservation)) => {
            reserved.push(image_reservation);
            response
        }
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(ReservedUntilSent(reserved));
    response.extensions_mut().insert(requested_model);
    Ok(response)
}

/// Classifies the photos of one request.
struct PhotoClassifier {
    app: Arc<App>,
    model: Arc<Model>,
    /// Memory reserved for the encoded photos, which the decode pool holds too.
    upload_reservation: Arc<Reservation>,
    top_k: usize,
    explain: Option<Explain>,
}

/// A photo that was classified.
struct ClassifiedPhoto {
    prediction: PhotoPrediction,
    /// The cropped photo, if a class activation map was requested.
    image: Option<ImageBatch>,
    /// Memory reserved for the image and its explanation.
    reservation: Reservation,
}

impl PhotoClassifier {
    /// Returns the response for a single photo, and the memory to hold until it is sent.
    async fn classify_one(
        &self,
        mut photos: Vec<Result<Bytes, ApiError>>,
        as_png: bool,
    ) -> Result<(Response, Arc<Reservation>), ApiError> {
        inference::check_queue(&self.model, 1)?;
        let (photo, permit) = (photos.remove(0)?, self.app.decode_pool.acquire()?);
        let ClassifiedPhoto { prediction, image, reservation } = self.classify(photo, permit).await?;
        let (timing, reservation) = (prediction.prediction.timing_ms, Arc::new(reservation));
        let mut response = match prediction {
            PhotoPrediction { explanation: Some(explanation), .. } if as_png => {
                let image = image.expect("the image is kept for a class activation map");
                let reserved = (self.upload_reservation.clone(), reservation.clone());
                let draw = move || overlay(&image, &explanation.map).to_png();
                png_response(self.app.decode_pool.run(reserved, draw).await?)
            }
            PhotoPrediction { feature_maps: Some(feature_maps), .. } if as_png => png_response(feature_maps.png),
            prediction => Json(prediction).into_response(),
        };
        response.extensions_mut().insert(PhaseTimings(timing));
        Ok((response, reservation))
    }

    /// Returns the response for several photos, and the memory to hold until it is sent. A photo that cannot be
    /// classified fails by itself; an error or a limit of the server fails the whole request, and cancels what was
    /// started.
    async fn classify_list(
        &self,
        photos: Vec<Result<Bytes, ApiError>>,
        as_png: bool,
    ) -> Result<(Response, Arc<Reservation>), ApiError> {
        if as_png {
            let message = "a PNG can explain only one photo; accept JSON, or send the photos one by one";
            return Err(ApiError::not_acceptable(message));
        }
        let count = photos.iter().flatten().count();
        inference::check_queue(&self.model, count)?;
        let mut permits = self.app.decode_pool.acquire_many(count)?.into_iter();
        let mut with_permit = |photo| (photo, permits.next().expect("one permit per photo"));
        let photos: Vec<_> = photos.into_iter().map(|photo| photo.map(&mut with_permit)).collect();
        let classified = try_join_all(photos.into_iter().map(|photo| self.classify_independently(photo))).await?;

        let (mut results, mut timings) = (Vec::with_capacity(classified.len()), Vec::new());
        let mut reservation = self.app.memory.empty_reservation();
        for photo in classified {
            results.push(match photo {
                Ok(photo) => {
                    timings.push(photo.prediction.prediction.timing_ms);
                    reservation.merge(photo.reservation);
                    PhotoResult::Answer(Box::new(photo.prediction))
                }
                Err(failure) => PhotoResult::Failure(failure),
            });
        }
        let mut response = Json(PhotoResults { results }).into_response();
        response.extensions_mut().insert(PhaseTimings(inference::slowest(timings.into_iter())));
        Ok((response, reservation.into()))
    }

    /// Returns an error of the photo as the inner result, and an error of the server as the outer one.
    async fn classify_independently(
        &self,
        photo: Result<(Bytes, DecodePermit), ApiError>,
    ) -> Result<Result<ClassifiedPhoto, Failure>, ApiError> {
        let classified = match photo {
            Ok((photo, permit)) => self.classify(photo, permit).await,
            Err(error) => Err(error),
        };
        match classified {
            Err(error) if error.is_server_error() => Err(error),
            classified => Ok(classified.map_err(ApiError::into_failure)),
        }
    }

    /// Decodes and classifies one photo.
    async fn classify(&self, photo: Bytes, permit: DecodePermit) -> Result<ClassifiedPhoto, ApiError> {
        let PhotoClassifier { app, model, upload_reservation, top_k, explain } = self;
        let prepare = app.decode_pool.prepare(permit, photo, upload_reservation.clone(), model.metadata.clone());
        let (PreparedPhoto { image, region, decode_ms, preprocess_ms }, decode_wait) = prepare.await?;
        let explanation_memory = match explain {
            Some(Explain::ClassActivationMap) => image.pixels().len(),
            Some(Explain::FeatureMaps(tap)) => FeatureMaps::memory(**tap, &model.metadata),
            None => 0,
        };
        let reservation = app.memory.reserve(image.pixels().len() + explanation_memory)?;
        let image_to_explain = (*explain == Some(Explain::ClassActivationMap)).then(|| image.clone());
        let outputs = inference::run(model, [Input::Pixels(image)], explain.map_or(&[][..], Explain::taps)).await;
        let output = outputs.map_err(|error| inference::api_error(model, error))?.remove(0);

        let timing = inference::timing(decode_ms, preprocess_ms, decode_wait + output.queue, output.inference);
        let prediction =
            Prediction::new(&model.id, &model.metadata, output.device, (&output.logits, 0), *top_k, timing);
        let mut photo = ClassifiedPhoto {
            prediction: PhotoPrediction { prediction, explanation: None, feature_maps: None },
            image: image_to_explain,
            reservation,
        };
        match explain {
            Some(Explain::ClassActivationMap) => {
                let top_class = photo.prediction.prediction.predictions[0].index;
                let map = inference::explain(model, &output, top_class);
                photo.prediction.explanation = map.map(|map| Explanation { map, region });
                Ok(photo)
            }
            Some(Explain::FeatureMaps(_)) => self.draw_feature_maps(photo, output.activations).await,
            None => Ok(photo),
        }
    }

    /// Adds the feature maps of the only activation to a photo.
    async fn draw_feature_maps(
        &self,
        mut photo: ClassifiedPhoto,
        activations: Vec<Activation>,
    ) -> Result<ClassifiedPhoto, ApiError> {
        let draw = move || {
            photo.prediction.feature_maps = activations.first().map(FeatureMaps::draw);
            photo
        };
        self.app.decode_pool.run(self.upload_reservation.clone(), draw).await
    }
}

fn png_response(png: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "image/png")], png).into_response()
}

#[cfg(test)]
mod tests {
    use crate::fixture::{self, FakeEngine, TestResponse, form, photo};
    use crate::upload::UploadLimits;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    const JPEG: &str = "image/jpeg";

    async fn post(path: &str, body: Vec<u8>) -> TestResponse {
        fixture::post(&fixture::app(), path, JPEG, body).await
    }

    #[tokio::test]
    async fn one_photo_returns_a_prediction() {
        let response = post("/predict", photo(7)).await;
        assert_eq!(response.status, 200, "{}", response.body);
        let prediction = response.json();
        assert_eq!(prediction["predictions"][0]["index"], 7);
        assert_eq!(prediction["predictions"].as_array().unwrap().len(), 5);
        assert!(prediction["timing_ms"]["queue"].as_f64().unwrap() > 0.0, "{prediction}");
    }

    /// The fake engine returns the logits 1 and 0 for a black photo: 1 / (1 + exp(-1 / 2)) is 0.6225.
    #[tokio::test]
    async fn temperature_and_rejection_threshold_are_applied() {
        for (threshold, below_threshold) in [(0.62, false), (0.63, true)] {
            let app = fixture::app_with_model(fixture::calibrated_model(2.0, threshold));
            let prediction = fixture::post(&app, "/predict", JPEG, photo(0)).await.json();
            let probability = prediction["predictions"][0]["probability"].as_f64().unwrap();
            assert!((probability - 0.622_459_3).abs() < 1e-6, "{prediction}");
            assert_eq!(prediction["below_threshold"], below_threshold);
        }
        let prediction = post("/predict", photo(0)).await.json();
        assert_eq!(prediction.get("below_threshold"), None, "{prediction}");
    }

    #[tokio::test]
    async fn several_photos_return_results_in_order() {
        let (content_type, body) = form(&[("file", &photo(1)), ("file", b"no photo"), ("file", &photo(3))]);
        let response = fixture::post(&fixture::app(), "/predict?top_k=1", content_type, body).await;
        assert_eq!(response.status, 200, "{}", response.body);
        let results = response.json();
        assert_eq!(results["results"][0]["predictions"][0]["index"], 1);
        assert_eq!(results["results"][1]["error"]["code"], "unsupported_format");
        assert_eq!(results["results"][2]["predictions"][0]["index"], 3);
        assert_eq!(results["results"].as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_list_of_one_photo_returns_a_list() {
        let photo = STANDARD.encode(photo(7));
        for (document, pointer) in [
            (json!({ "images": [photo] }), "/results/0/predictions/0/index"),
            (json!({ "image": photo }), "/predictions/0/index"),
        ] {
            let response = fixture::post(&fixture::app(), "/predict", "application/json", document.to_string()).await;
            assert_eq!(response.json().pointer(pointer), Some(&json!(7)), "{}", response.body);
        }
    }

    #[tokio::test]
    async fn top_k_must_be_a_positive_integer() {
        for top_k in ["0", "-1", "1.5", "five", "", "99999999999999999999999"] {
            let response = post(&format!("/predict?top_k={top_k}"), photo(0)).await;
            assert_eq!((response.status, response.code().as_str()), (400, "malformed_request"), "{top_k:?}");
        }
        let response = post("/predict?top_k=1&top_k=2", photo(0)).await;
        assert_eq!((response.status, response.code().as_str()), (400, "malformed_request"));
    }

    #[tokio::test]
    async fn options_in_json_replace_query_parameters() {
        let predict = async |query: &str, options: serde_json::Value| {
            let mut document = json!({ "image": STANDARD.encode(photo(1)) });
            document.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
            let path = format!("/predict{query}");
            fixture::post(&fixture::app(), &path, "application/json", document.to_string()).await
        };
        for (query, options) in [
            ("", json!({ "top_k": 1, "model": "small" })),
            ("?model=small", json!({ "top_k": 1 })),
            ("?model=small&top_k=1", json!({ "top_k": "1", "model": "small" })),
        ] {
            let response = predict(query, options).await.json();
            assert_eq!(response["model"], "small", "{response}");
            assert_eq!(response["predictions"].as_array().unwrap().len(), 1, "{response}");
        }
        for (query, options, message) in [
            ("", json!({ "top_k": 0 }), "invalid top_k \\\"0\\\""),
            ("", json!({ "top_k": 1.5 }), "invalid top_k \\\"1.5\\\""),
            ("?top_k=2", json!({ "top_k": 1 }), "top_k is \\\"2\\\" in the query and \\\"1\\\" in the document"),
            ("?model=large", json!({ "model": "small" }), "model is \\\"large\\\" in the query"),
        ] {
            let response = predict(query, options).await;
            assert_eq!((response.status, response.code().as_str()), (400, "malformed_request"));
            assert!(response.body.contains(message), "{}", response.body);
        }
        assert_eq!(predict("", json!({ "model": "medium" })).await.status, 404);
    }

    #[tokio::test]
    async fn model_is_selected_by_name() {
        assert_eq!(post("/predict?model=small", photo(0)).await.status, 200);
        let response = post("/predict?model=medium", photo(0)).await;
        assert_eq!((response.status, response.code().as_str()), (404, "unknown_model"));
        assert!(response.body.contains("small, large"), "{}", response.body);
    }

    #[tokio::test]
    async fn error_of_a_single_photo_sets_the_status() {
        for (body, status, code) in [
            (Vec::new(), 400, "nothing_to_classify"),
            (b"no photo".to_vec(), 415, "unsupported_format"),
            (photo(0)[..40].to_vec(), 422, "undecodable"),
        ] {
            let response = post("/predict", body).await;
            assert_eq!((response.status, response.code().as_str()), (status, code));
        }
        let app = fixture::app_with_limits(UploadLimits { bytes: 10, count: 1 });
        let response = fixture::post(&app, "/predict", JPEG, photo(0)).await;
        assert_eq!((response.status, response.code().as_str()), (413, "too_large"));
    }

    #[tokio::test]
    async fn internal_errors_reveal_no_details() {
        for engine in [FakeEngine::Fails, FakeEngine::Panics] {
            let app = fixture::app_with_model(fixture::model_with_engine("broken", 2, engine));
            let response = fixture::post(&app, "/predict", JPEG, photo(0)).await;
            assert_eq!((response.status, response.code().as_str()), (500, "internal"));
            assert!(!response.body.contains("secret"), "{}", response.body);
        }
    }
}
