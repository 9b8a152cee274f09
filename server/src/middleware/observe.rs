//! Observability: logs every response, counts it in the metrics, and adds its `Server-Timing`.

use super::request_id::REQUEST_ID;
use crate::app::App;
use crate::error::ErrorDetails;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use model::prediction::Timing;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Response extension set by handlers: the name of the model that processed the request.
#[derive(Clone)]
pub struct RequestedModel(pub String);

/// Response extension set by handlers: the duration of each phase, for the slowest image.
#[derive(Clone, Copy)]
pub struct PhaseTimings(pub Timing);

pub async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    // The pattern of the route, because arbitrary paths would create an unbounded number of metrics.
    let route = match request.extensions().get::<MatchedPath>() {
        // The CORS layer answers these; no handler is called.
        _ if request.method() == Method::OPTIONS => "preflight",
        Some(path) => path.as_str(),
        None => "page",
    };
    let route = route.to_owned();
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        id = id.unwrap_or_default()
    );
    let disconnect_guard = DisconnectGuard { app: &app, route: &route, start };
    let mut response = next.run(request).instrument(span.clone()).await;
    std::mem::forget(disconnect_guard);

    let duration = start.elapsed();
    let status = response.status().as_u16();
    let extensions = response.extensions();
    let model = extensions.get::<RequestedModel>().map_or("", |model| &model.0);
    let error_code = extensions.get::<ErrorDetails>().map(|error| error.code);
    app.metrics.record_response(&route, status, model, error_code, duration);
    span.in_scope(|| {
        let ms = (duration.as_secs_f64() * 1e4).round() / 10.0;
        tracing::info!(status, ms, "answered");
    });

    let timing = server_timing(duration, extensions.get());
    response.headers_mut().insert(SERVER_TIMING, timing);
    response
}

/// Counts a request whose handler is dropped because its client has disconnected, with status 499 like nginx.
struct DisconnectGuard<'a> {
    app: &'a App,
    route: &'a str,
    start: Instant,
}

impl Drop for DisconnectGuard<'_> {
    fn drop(&mut self) {
        self.app.metrics.record_response(self.route, 499, "", Some("client_gone"), self.start.elapsed());
    }
}

fn server_timing(total: Duration, phases: Option<&PhaseTimings>) -> HeaderValue {
    let mut text = String::new();
    if let Some(PhaseTimings(Timing { decode, preprocess, queue, inference, .. })) = phases {
        for (name, ms) in [("decode", decode), ("preprocess", preprocess), ("queue", queue), ("inference", inference)] {
            text += &format!("{name};dur={ms:.3}, ");
        }
    }
    text += &format!("total;dur={:.3}", total.as_secs_f64() * 1e3);
    HeaderValue::from_str(&text).expect("numbers are visible ASCII")
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get, photo, post};

    #[tokio::test]
    async fn every_response_has_a_server_timing() {
        let timing = get(&app(), "/nowhere").await.headers["server-timing"].to_str().unwrap().to_owned();
        assert!(timing.starts_with("total;dur="), "{timing}");
        let timing = post(&app(), "/predict", "", photo(0)).await.headers["server-timing"].to_str().unwrap().to_owned();
        assert!(
            ["decode", "preprocess", "queue", "inference", "total"].iter().all(|phase| timing.contains(phase)),
            "{timing}"
        );
    }
}
