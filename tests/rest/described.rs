//! What the server says of itself.

use crate::shared::{Shared, answer, photo};
use anyhow::{Context, Result, ensure};

pub fn documents(shared: &Shared) -> Result<()> {
    let document = answer(shared.get("/openapi.json")?)?.json(200)?;
    for path in ["/predict", "/models", "/v2/models/{model}/infer", "/metrics", "/readyz"] {
        ensure!(document["paths"][path].is_object(), "{path} is not described");
    }
    let page = answer(shared.get("/docs")?)?;
    ensure!(page.status == 200 && page.text().contains("/v2/models/{model}/infer"), "{}", page.status);
    ensure!(page.header("content-security-policy").starts_with("default-src 'none'"), "{:?}", page.headers);
    Ok(())
}

pub fn traces(shared: &Shared) -> Result<()> {
    let answer = answer(shared.post("/predict")?.header("x-request-id", "mine").body(photo("cat.jpg")?))?;
    ensure!(answer.header("x-request-id") == "mine", "{:?}", answer.headers);
    let timing = answer.header("server-timing");
    for phase in ["decode", "preprocess", "queue", "inference", "total"] {
        let of_phase = timing.split(", ").find_map(|part| part.strip_prefix(&format!("{phase};dur=")));
        let ms: f64 = of_phase.with_context(|| format!("no {phase} in {timing}"))?.parse()?;
        ensure!(ms > 0.0 && ms < 60_000.0, "{timing}");
    }
    Ok(())
}
