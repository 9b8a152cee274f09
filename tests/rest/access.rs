//! API keys and CORS.

use crate::http::{Response, photo, send};
use crate::test_server::TestServer;
use anyhow::{Result, ensure};
use reqwest::Method;
use tests::workspace::SMALL_MODEL;

pub fn api_keys(server: &TestServer) -> Result<()> {
    let cat = photo("cat.jpg")?;
    let predict = || server.post("/predict").body(cat.clone());
    send(predict())?.expect_error(401, "key_missing")?;
    send(predict().header("x-api-key", "three"))?.expect_error(403, "forbidden")?;
    send(predict().header("x-api-key", "one"))?.json(200)?;
    send(predict().bearer_auth("two"))?.json(200)?;
    let rejected = send(server.post(&format!("/v2/models/{SMALL_MODEL}/infer")).body("{}"))?;
    ensure!(rejected.status == 401 && rejected.header("www-authenticate") == "Bearer", "{:?}", rejected.headers);
    // In the error format of the protocol.
    ensure!(rejected.json(401)?["error"].is_string(), "{}", rejected.text());
    // A client that is still sending its body receives the error, too.
    send(server.post("/predict").body(vec![0; 15_000_000]))?.expect_error(401, "key_missing")?;
    // The page runs inference in the browser, which requires no key.
    for path in ["/", "/models", "/healthz", "/readyz"] {
        ensure!(send(server.get(path))?.status == 200, "{path}");
    }
    Ok(())
}

pub fn cors() -> Result<()> {
    let server = TestServer::start(["--cors-origins", "https://example.org"])?;
    let preflight = |server: &TestServer, origin: &str| {
        let client = reqwest::blocking::Client::new();
        let request = client.request(Method::OPTIONS, format!("{}/predict", server.url()));
        let request = request.header("access-control-request-headers", "range,if-range,if-none-match,traceparent");
        send(request.header("origin", origin).header("access-control-request-method", "POST"))
    };
    let allowed = preflight(&server, "https://example.org")?;
    ensure!(allowed.header("access-control-allow-origin") == "https://example.org", "{:?}", allowed.headers);
    // Headers that the worker of the page sends and reads to resume a download of weights.
    let sent = ["range", "if-range", "if-none-match", "traceparent"];
    ensure!(
        sent.iter().all(|name| list_contains(&allowed, "access-control-allow-headers", name)),
        "{:?}",
        allowed.headers
    );
    ensure!(allowed.header("access-control-allow-credentials") == "true", "{:?}", allowed.headers);
    let other = preflight(&server, "https://example.com")?;
    ensure!(other.header("access-control-allow-origin").is_empty(), "{:?}", other.headers);
    let metrics = send(server.get("/metrics"))?.text();
    ensure!(metrics.contains(r#"requests_total{model="",route="preflight",status="200"} 2"#), "{metrics}");
    ensure!(!metrics.contains(r#"route="/predict""#), "{metrics}");
    let response = send(server.get("/models").header("origin", "https://example.org"))?;
    ensure!(response.header("access-control-allow-origin") == "https://example.org", "{:?}", response.headers);
    let read = ["accept-ranges", "content-range", "etag"];
    ensure!(
        read.iter().all(|name| list_contains(&response, "access-control-expose-headers", name)),
        "{:?}",
        response.headers
    );
    ensure!(response.header("access-control-allow-credentials") == "true", "{:?}", response.headers);

    let open = TestServer::start(["--cors-origins", "*"])?;
    let allowed = preflight(&open, "https://example.com")?;
    ensure!(allowed.header("access-control-allow-origin") == "*", "{:?}", allowed.headers);
    ensure!(!allowed.headers.contains_key("access-control-allow-credentials"), "{:?}", allowed.headers);
    ensure!(list_contains(&allowed, "access-control-allow-headers", "range"), "{:?}", allowed.headers);
    ensure!(!list_contains(&allowed, "access-control-allow-headers", "traceparent"), "{:?}", allowed.headers);
    Ok(())
}

/// Returns whether a header with a comma-separated list contains `name`.
fn list_contains(response: &Response, header: &str, name: &str) -> bool {
    response.header(header).split(',').any(|element| element.trim() == name)
}
