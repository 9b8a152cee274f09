//! The documentation of the API, and the tracing headers of responses.

use crate::http::{SharedServer, photo, send};
use anyhow::{Context, Result, ensure};

pub fn documents(shared: &SharedServer) -> Result<()> {
    let document = send(shared.get("/openapi.json")?)?.json(200)?;
    for path in ["/predict", "/models", "/v2/models/{model}/infer", "/metrics", "/readyz"] {
        ensure!(document["paths"][path].is_object(), "{path} is not documented");
    }
    let page = send(shared.get("/docs")?)?;
    ensure!(page.status == 200 && page.text().contains("/v2/models/{model}/infer"), "{}", page.status);
    ensure!(page.header("content-security-policy").starts_with("default-src 'none'"), "{:?}", page.headers);
    Ok(())
}

pub fn tracing_headers(shared: &SharedServer) -> Result<()> {
    let response = send(shared.post("/predict")?.header("x-request-id", "mine").body(photo("cat.jpg")?))?;
    ensure!(response.header("x-request-id") == "mine", "{:?}", response.headers);
    let timing = response.header("server-timing");
    for phase in ["decode", "preprocess", "queue", "inference", "total"] {
        let duration = timing.split(", ").find_map(|part| part.strip_prefix(&format!("{phase};dur=")));
        let ms: f64 = duration.with_context(|| format!("no {phase} in {timing}"))?.parse()?;
        ensure!(ms > 0.0 && ms < 60_000.0, "{timing}");
    }
    Ok(())
}
