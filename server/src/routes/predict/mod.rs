//! `POST /predict`: what the photos of a request show.

mod accept;
mod overlay;

use crate::app::App;
use crate::batching::{Answered, Pending, Unanswered};
use crate::body::{self, Share};
use crate::decoding::Place;
use crate::documents::JsonPhotos;
use crate::error::ApiError;
use crate::middleware::observe::{Asked, Phases};
use crate::photos::Photos;
use crate::registry::Model;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::try_join_all;
use model::classifier::Prepared;
use model::engine::{EngineError, Input};
use model::explain::{ClassWeights, Explanation};
use model::plan::Tap;
use model::prediction::{Failure, Prediction, Timing};
use model::preprocess::ImageBatch;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How many classes an answer names if nobody says.
const TOP_K: usize = 5;

/// What a run keeps for who wants an explanation.
const EXPLAINED: &[Tap] = &[ClassWeights::TAP];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Options {
    /// How many classes to name; more than there are names all.
    #[param(value_type = Option<u64>, minimum = 1, example = 5)]
    top_k: Option<String>,
    /// The model to ask, if not the default.
    model: Option<String>,
    /// `cam`: with what spoke for the likeliest class, a class activation map. With `Accept: image/png` it is the answer, laid
    /// over what the network saw of the photo.
    #[param(inline, value_type = Option<Explain>)]
    explain: Option<String>,
}

/// How to explain an answer.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of a parameter whose errors are ours")]
enum Explain {
    Cam,
}

/// The answer for one photo.
#[derive(Serialize, ToSchema)]
pub struct Answer {
    #[serde(flatten)]
    prediction: Prediction,
    /// Of `?explain=cam`.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Explanation>,
}

/// One of several photos.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Outcome {
    Answer(Box<Answer>),
    Failure(Failure),
}

/// The answer for several photos, in their order.
#[derive(Serialize, ToSchema)]
pub struct Results {
    results: Vec<Outcome>,
}

/// A photo, or several.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a form")]
struct PhotoForm {
    /// Once or often.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<u8>,
}

/// One answer or several, as there were photos.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of an answer")]
enum AnswerOrResults {
    Answer(Box<Answer>),
    Results(Results),
}

/// Says what photos show
///
/// JPEG, PNG, WebP, GIF and BMP; what a photo is, its bytes say. One photo gets a prediction, or its failure with the status of
/// it; several, and those in a list, get results in their order.
#[utoipa::path(
    post, path = "/predict", tag = "Predictions", params(Options),
    request_body(content(
        (PhotoForm = "multipart/form-data"),
        (JsonPhotos = "application/json"),
        (Vec<u8> = "image/*", example = "the photo as it is"),
    )),
    responses(
        (status = OK, content((AnswerOrResults = "application/json"), (Vec<u8> = "image/png"))),
        (status = BAD_REQUEST, body = Failure), (status = UNAUTHORIZED, body = Failure),
        (status = FORBIDDEN, body = Failure), (status = NOT_FOUND, description = "no such model", body = Failure),
        (status = NOT_ACCEPTABLE, description = "several photos make no PNG", body = Failure),
        (status = REQUEST_TIMEOUT, description = "the body does not come any further", body = Failure),
        (status = PAYLOAD_TOO_LARGE, body = Failure),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "no format of a photo that is known, or a body that is packed", body = Failure),
        (status = UNPROCESSABLE_ENTITY, description = "a photo that cannot be decoded", body = Failure),
        (status = INTERNAL_SERVER_ERROR, body = Failure),
        (status = SERVICE_UNAVAILABLE, description = "as much waits as may; Retry-After says when", body = Failure),
        (status = GATEWAY_TIMEOUT, description = "no answer within x-timeout-ms or the server's limit", body = Failure),
    )
)]
pub async fn predict(
    State(app): State<Arc<App>>,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
    Photos { photos, is_list, share }: Photos,
) -> Result<Response, ApiError> {
    let Query(options) = options.map_err(|rejection| ApiError::malformed(rejection.body_text()))?;
    let (top_k, explain) = (options.top_k()?, options.explain()?);
    let model = app.registry.get(options.model.as_deref())?;
    let asked = Asked(model.name().to_owned());
    let ask = Ask { app, model, share: share.clone(), top_k, explain };
    let as_png = explain && accept::wants_png(&headers);
    let answered = if is_list { ask.several(photos, as_png).await } else { ask.only(photos, as_png).await };
    let mut response = body::held(answered.unwrap_or_else(ApiError::into_response), share).await;
    response.extensions_mut().insert(asked);
    Ok(response)
}

/// What is asked of every photo of a request.
struct Ask {
    app: Arc<App>,
    model: Arc<Model>,
    share: Arc<Share>,
    top_k: usize,
    explain: bool,
}

impl Ask {
    async fn only(&self, mut photos: Vec<Result<Bytes, ApiError>>, as_png: bool) -> Result<Response, ApiError> {
        self.check_room(1)?;
        let (photo, place) = (photos.remove(0)?, self.app.decoding.place()?);
        let (answer, image) = self.one(photo, place).await?;
        let phases = Phases(answer.prediction.timing_ms);
        let mut response = match (answer.explanation, image) {
            (Some(explanation), Some(image)) if as_png => {
                let png = self.app.decoding.work(&self.share, move || overlay::png(&image, &explanation.map)).await?;
                ([(header::CONTENT_TYPE, "image/png")], png).into_response()
            }
            (explanation, _) => Json(Answer { explanation, ..answer }).into_response(),
        };
        response.extensions_mut().insert(phases);
        Ok(response)
    }

    /// Photos fail one by one; what is the server's fault, or its limit, is so for all of them, and ends what was begun.
    async fn several(&self, photos: Vec<Result<Bytes, ApiError>>, as_png: bool) -> Result<Response, ApiError> {
        if as_png {
            let message = "a PNG explains one photo; ask for JSON, or for one after the other";
            return Err(ApiError::not_acceptable(message));
        }
        let count = photos.iter().flatten().count();
        self.check_room(count)?;
        let mut places = self.app.decoding.places(count)?.into_iter();
        let mut placed = |photo| (photo, places.next().expect("there is one for each photo"));
        let placed: Vec<_> = photos.into_iter().map(|photo| photo.map(&mut placed)).collect();
        let results = try_join_all(placed.into_iter().map(|photo| self.outcome(photo))).await?;
        let timings = results.iter().filter_map(|outcome| match outcome {
            Outcome::Answer(answer) => Some(answer.prediction.timing_ms),
            Outcome::Failure(_) => None,
        });
        let slowest = timings.max_by(|one, other| one.total.total_cmp(&other.total)).unwrap_or_default();
        let mut response = Json(Results { results }).into_response();
        response.extensions_mut().insert(Phases(slowest));
        Ok(response)
    }

    async fn outcome(&self, photo: Result<(Bytes, Place), ApiError>) -> Result<Outcome, ApiError> {
        let answered = match photo {
            Ok((photo, place)) => self.one(photo, place).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok((answer, _)) => Ok(Outcome::Answer(Box::new(answer))),
            Err(error) if error.is_the_servers() => Err(error),
            Err(error) => Ok(Outcome::Failure(error.into_failure())),
        }
    }

    /// Said before photos are decoded in vain.
    fn check_room(&self, images: usize) -> Result<(), ApiError> {
        if self.model.batcher.is_full(images) { Err(unanswered(&self.model, Unanswered::Full)) } else { Ok(()) }
    }

    /// The answer, and what the network saw for who wants an explanation.
    async fn one(&self, photo: Bytes, place: Place) -> Result<(Answer, Option<ImageBatch>), ApiError> {
        let Ask { app, model, share, top_k, explain } = self;
        let (prepared, wait) = app.decoding.prepare(place, photo, share, model.metadata.clone()).await?;
        let Prepared { image, region, decode_ms, preprocess_ms } = prepared;
        share.grow(image.pixels().len() * (1 + usize::from(*explain)))?;
        let (keep, seen) = if *explain { (EXPLAINED, Some(image.clone())) } else { (&[][..], None) };
        let answers = answer(model, [Input::Pixels(image)], keep).await;
        let Answered { logits, kept, device, queue, inference } =
            answers.map_err(|reason| unanswered(model, reason))?.remove(0);

        let timing = Timing::new(decode_ms, preprocess_ms, milliseconds(wait + queue), milliseconds(inference));
        let prediction = Prediction::new(&model.id, &model.metadata, device, (&logits, 0), *top_k, timing);
        let explanation = kept.first().map(|kept| {
            let likeliest = prediction.predictions[0].index;
            Explanation { map: model.class_weights.evidence(kept, 0, likeliest).in_favour(), region }
        });
        Ok((Answer { prediction, explanation }, seen))
    }
}

/// What the engines say of images, in their order.
pub async fn answer(
    model: &Model,
    images: impl IntoIterator<Item = Input>,
    keep: &'static [Tap],
) -> Result<Vec<Answered>, Unanswered> {
    let pending = model.batcher.submit(images, keep)?;
    try_join_all(pending.into_iter().map(Pending::answer)).await
}

pub fn unanswered(model: &Model, reason: Unanswered) -> ApiError {
    match reason {
        Unanswered::Full => ApiError::overloaded("as many images wait for the model as may"),
        Unanswered::Engine(EngineError::Input(reason)) => ApiError::unprocessable(reason),
        reason => ApiError::internal(format_args!("model {:?}: {reason}", model.name())),
    }
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Options {
    fn top_k(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.top_k else { return Ok(TOP_K) };
        match text.parse() {
            Ok(0) | Err(_) => Err(ApiError::malformed(format!("top_k={text}: a whole number from 1 is expected"))),
            Ok(top_k) => Ok(top_k),
        }
    }

    fn explain(&self) -> Result<bool, ApiError> {
        match self.explain.as_deref() {
            None => Ok(false),
            Some("cam") => Ok(true),
            Some(other) => Err(ApiError::malformed(format!("explain={other}: `cam` is expected"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::fixture::{self, Answer, FakeEngine, form, photo};
    use crate::photos::UploadLimits;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

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
    async fn a_list_of_one_photo_gets_a_list() {
        let photo = STANDARD.encode(photo(7));
        for (document, pointer) in [
            (json!({ "images": [photo] }), "/results/0/predictions/0/index"),
            (json!({ "image": photo }), "/predictions/0/index"),
        ] {
            let answer = fixture::post(&fixture::app(), "/predict", "application/json", document.to_string()).await;
            assert_eq!(answer.json().pointer(pointer), Some(&json!(7)), "{}", answer.body);
        }
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
        let app = fixture::app_with_limits(UploadLimits { bytes: 10, count: 1 });
        let answer = fixture::post(&app, "/predict", JPEG, photo(0)).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    }

    #[tokio::test]
    async fn what_went_wrong_inside_stays_inside() {
        for engine in [FakeEngine::Fails, FakeEngine::Panics] {
            let app = fixture::app_of(fixture::model_with("broken", 2, engine));
            let answer = fixture::post(&app, "/predict", JPEG, photo(0)).await;
            assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
            assert!(!answer.body.contains("secret"), "{}", answer.body);
        }
    }
}
