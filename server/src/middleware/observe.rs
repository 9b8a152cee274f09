//! Every answer has its id, its line in the log, its time in `Server-Timing`, and its place in the metrics.

use crate::app::App;
use crate::error::Refusal;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use model::prediction::Timing;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// The longest id of a client's that is taken over.
const LONGEST_ID: usize = 128;

/// Left on an answer by its handler: which model was asked.
#[derive(Clone)]
pub struct Asked(pub String);

/// Left on an answer by its handler: what took how long, of the slowest image.
#[derive(Clone, Copy)]
pub struct Phases(pub Timing);

pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = id(request.headers());
    // By its pattern: paths of whatever clients think up would be metrics without end.
    let route = match request.extensions().get::<MatchedPath>() {
        // A browser's question whether a page of others may ask, which no handler sees.
        _ if request.method() == Method::OPTIONS => "preflight",
        Some(path) => path.as_str(),
        None => "page",
    };
    let route = route.to_owned();
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        id = id.to_str().unwrap_or_default()
    );
    let gone = Gone { app: &app, route: &route, begun };
    let mut response = next.run(request).instrument(span.clone()).await;
    std::mem::forget(gone);

    let took = begun.elapsed();
    let status = response.status().as_u16();
    let extensions = response.extensions();
    let model = extensions.get::<Asked>().map_or("", |asked| &asked.0);
    let refusal = extensions.get::<Refusal>().map(|refusal| refusal.0);
    app.metrics.answered(&route, status, model, refusal, took);
    span.in_scope(|| {
        let ms = (took.as_secs_f64() * 1e4).round() / 10.0;
        tracing::info!(status, ms, "answered");
    });

    let timing = server_timing(took, extensions.get());
    let headers = response.headers_mut();
    headers.insert(SERVER_TIMING, timing);
    headers.insert(REQUEST_ID, id);
    response
}

/// Dropped with a handler that does not end, for its client has gone: counted as nginx does it.
struct Gone<'a> {
    app: &'a App,
    route: &'a str,
    begun: Instant,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.app.metrics.answered(self.route, 499, "", Some("client_gone"), self.begun.elapsed());
    }
}

/// The client's, or one that nobody else has.
fn id(headers: &HeaderMap) -> HeaderValue {
    let is_fit = |id: &&HeaderValue| (1..=LONGEST_ID).contains(&id.len()) && id.to_str().is_ok();
    headers.get(REQUEST_ID).filter(is_fit).cloned().unwrap_or_else(new_id)
}

/// When the first was needed, and how many there were since.
fn new_id() -> HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64 ^ u64::from(std::process::id()).rotate_left(48)
    });
    let id = format!("{:016x}-{:08x}", *START, COUNT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::from_str(&id).expect("hexadecimal is visible ASCII")
}

fn server_timing(total: Duration, phases: Option<&Phases>) -> HeaderValue {
    let mut text = String::new();
    if let Some(Phases(Timing { decode, preprocess, queue, inference, .. })) = phases {
        for (name, ms) in [("decode", decode), ("preprocess", preprocess), ("queue", queue), ("inference", inference)] {
            text += &format!("{name};dur={ms:.3}, ");
        }
    }
    text += &format!("total;dur={:.3}", total.as_secs_f64() * 1e3);
    HeaderValue::from_str(&text).expect("numbers are visible ASCII")
}

#[cfg(test)]
mod tests {
    use crate::fixture::{answer, app, get, photo, post};
    use axum::body::Body;
    use axum::http::Request;

    #[tokio::test]
    async fn an_id_comes_back_or_is_given() {
        let request = Request::get("/healthz").header("x-request-id", "mine").body(Body::empty()).unwrap();
        assert_eq!(answer(&app(), request).await.headers["x-request-id"], "mine");
        let (first, second) = (get(&app(), "/healthz").await, get(&app(), "/nowhere").await);
        assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
        let long = "x".repeat(200);
        let request = Request::get("/healthz").header("x-request-id", &long).body(Body::empty()).unwrap();
        assert_ne!(answer(&app(), request).await.headers["x-request-id"], long.as_str());
    }

    #[tokio::test]
    async fn every_answer_says_how_long_it_took() {
        let timing = get(&app(), "/nowhere").await.headers["server-timing"].to_str().unwrap().to_owned();
        assert!(timing.starts_with("total;dur="), "{timing}");
        let timing = post(&app(), "/predict", "", photo(0)).await.headers["server-timing"].to_str().unwrap().to_owned();
        assert!(
            ["decode", "preprocess", "queue", "inference", "total"].iter().all(|phase| timing.contains(phase)),
            "{timing}"
        );
    }
}
