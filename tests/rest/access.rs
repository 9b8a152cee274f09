//! Who may ask for what.

use crate::own::{Own, SMALL};
use crate::shared::{Answer, answer, photo};
use anyhow::{Result, ensure};
use reqwest::Method;

pub fn keys() -> Result<()> {
    let own = Own::start(["--api-keys", "one,two"])?;
    let cat = photo("cat.jpg")?;
    let ask = || own.post("/predict").body(cat.clone());
    answer(ask())?.failure(401, "key_missing")?;
    answer(ask().header("x-api-key", "three"))?.failure(403, "forbidden")?;
    answer(ask().header("x-api-key", "one"))?.json(200)?;
    answer(ask().bearer_auth("two"))?.json(200)?;
    let refused = answer(own.post(&format!("/v2/models/{SMALL}/infer")).body("{}"))?;
    ensure!(refused.status == 401 && refused.header("www-authenticate") == "Bearer", "{:?}", refused.headers);
    // As the protocol writes errors.
    ensure!(refused.json(401)?["error"].is_string(), "{}", refused.text());
    // Who is still sending sees why, too.
    answer(own.post("/predict").body(vec![0; 15_000_000]))?.failure(401, "key_missing")?;
    // The page computes by itself, for which nobody needs a key.
    for path in ["/", "/models", "/healthz", "/readyz"] {
        ensure!(answer(own.get(path))?.status == 200, "{path}");
    }
    Ok(())
}

pub fn origins() -> Result<()> {
    let own = Own::start(["--cors-origins", "https://example.org"])?;
    let preflight = |origin: &str| {
        let client = reqwest::blocking::Client::new();
        let request = client.request(Method::OPTIONS, format!("{}/predict", own.server.url()));
        answer(request.header("origin", origin).header("access-control-request-method", "POST"))
    };
    let allowed = preflight("https://example.org")?;
    ensure!(allowed.header("access-control-allow-origin") == "https://example.org", "{:?}", allowed.headers);
    // What the page's worker sends and reads to go on with weights that broke off.
    let sent = ["range", "if-range", "if-none-match"];
    ensure!(sent.iter().all(|name| names(&allowed, "access-control-allow-headers", name)), "{:?}", allowed.headers);
    let other = preflight("https://example.com")?;
    ensure!(other.header("access-control-allow-origin").is_empty(), "{:?}", other.headers);
    let metrics = answer(own.get("/metrics"))?.text();
    ensure!(metrics.contains(r#"requests_total{model="",route="preflight",status="200"} 2"#), "{metrics}");
    ensure!(!metrics.contains(r#"route="/predict""#), "{metrics}");
    let answer = answer(own.get("/models").header("origin", "https://example.org"))?;
    ensure!(answer.header("access-control-allow-origin") == "https://example.org", "{:?}", answer.headers);
    let read = ["accept-ranges", "content-range", "etag"];
    ensure!(read.iter().all(|name| names(&answer, "access-control-expose-headers", name)), "{:?}", answer.headers);
    Ok(())
}

/// Whether a header that is a list has this among others.
fn names(answer: &Answer, header: &str, name: &str) -> bool {
    answer.header(header).split(',').any(|named| named.trim() == name)
}
