//! Clients that send invalid or malicious requests. Each must get a specific status and a short error message.

use super::{ClientContext, Tally};
use crate::model_updates::LOADED_MODEL;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=x";
const ANY: &str = "application/octet-stream";

/// Size of oversized fields, in bytes; no valid request comes close.
const OVERSIZED: usize = 4 << 20;
/// Size of oversized form headers, in bytes, far beyond the limit.
const HEADERS: usize = 4 << 20;
/// Maximum size of a response, in bytes: an error must not quote large parts of the request.
const MAX_RESPONSE: usize = 2000;

/// An invalid request and the expected status.
pub struct InvalidRequest {
    status: u16,
    path: String,
    content_type: &'static str,
    body: Vec<u8>,
}

/// Returns all invalid requests. They are created once, because some are large.
pub fn all_requests(photo: &[u8]) -> Vec<InvalidRequest> {
    let mut requests = Vec::new();
    let mut add = |status, path: &str, content_type, body: Vec<u8>| {
        requests.push(InvalidRequest { status, path: path.to_owned(), content_type, body });
    };
    add(415, "/predict", ANY, b"no photo".to_vec());
    add(422, "/predict", ANY, photo[..photo.len() / 3].to_vec());
    add(404, "/predict?model=nonesuch", ANY, photo.to_vec());
    add(400, "/predict?top_k=none", ANY, photo.to_vec());
    add(413, "/predict", ANY, vec![0xff; 21_000_000]);
    add(415, "/predict", ANY, vec![0xff; OVERSIZED]);

    let deep = "[".repeat(OVERSIZED);
    let garbage = "A".repeat(OVERSIZED);
    add(400, "/predict", JSON, deep.clone().into());
    add(400, "/predict", JSON, format!(r#"{{"images": {deep}"#).into());
    add(400, "/predict", JSON, format!(r#"{{"images": {deep}{}}}"#, "]".repeat(OVERSIZED)).into());
    add(400, "/predict", JSON, format!(r#"{{"{garbage}": 1}}"#).into());
    add(400, "/predict", JSON, format!("\"{garbage}\"").into());
    add(400, "/predict", JSON, br#"{"image": null, "images": null}"#.to_vec());
    add(400, "/predict", JSON, format!(r#"{{"images": [{}1]}}"#, "1,".repeat(OVERSIZED / 2)).into());
    add(413, "/predict", JSON, format!(r#"{{"images": [{}""]}}"#, r#""","#.repeat(OVERSIZED / 3)).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{garbage}"}}"#).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, r"\/".repeat(OVERSIZED)).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, r"\u0041".repeat(OVERSIZED / 2)).into());
    add(400, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, "!".repeat(OVERSIZED)).into());
    add(422, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, STANDARD.encode(&photo[..photo.len() / 3])).into());

    let infer = format!("/v2/models/{LOADED_MODEL}/infer");
    let mut tensor = |status, name: &str, datatype: &str, shape: &str, data: &str| {
        let tensor = format!(r#"{{"name": "{name}", "datatype": "{datatype}", "shape": {shape}, "data": {data}}}"#);
        add(status, &infer, JSON, format!(r#"{{"inputs": [{tensor}]}}"#).into());
    };
    let one = "[1, 3, 224, 224]";
    let numbers = |count: usize| format!("[{}0.5]", "0.5,".repeat(count - 1));
    let image = numbers(3 * 224 * 224);
    tensor(400, "input", "FP32", "[1, 3, 1000, 1000]", &numbers(1_000_000));
    tensor(400, "input", "FP32", one, &numbers(1_000_000));
    tensor(400, "input", "FP32", one, &numbers(1000));
    tensor(400, "input", "FP32", one, &format!("\"{garbage}\""));
    tensor(400, "input", "FP32", one, &format!("[{}1e999]", "0.5,".repeat(100_000)));
    tensor(400, "input", "FP32", one, &deep);
    tensor(400, "input", "FP32", one, &format!("{}{}", "[".repeat(OVERSIZED / 2), "]".repeat(OVERSIZED / 2)));
    tensor(400, "input", "FP32", &numbers(1_000_000), &image);
    tensor(400, "input", "FP32", "[18446744073709551615, 3, 224, 18446744073709551615]", &image);
    tensor(413, "input", "FP32", "[18446744073709551615, 3, 224, 224]", &image);
    tensor(400, "input", &garbage, one, &image);
    tensor(400, &garbage, "FP32", one, &image);
    tensor(422, "input", "FP32", one, &format!("[{}3e38]", "3e38,".repeat(3 * 224 * 224 - 1)));
    tensor(400, "images", "UINT8", "[1, 224, 224, 3]", &image);
    add(400, &infer, JSON, b"{\"inputs\": [}".to_vec());
    add(400, &infer, JSON, format!(r#"{{"inputs": [{}{{}}]}}"#, "{},".repeat(OVERSIZED / 3)).into());
    add(400, &infer, JSON, format!(r#"{{"id": "{garbage}", "inputs": null}}"#).into());
    add(400, &infer, JSON, format!(r#"{{"inputs": "{garbage}"}}"#).into());
    add(
        400,
        &infer,
        JSON,
        format!(r#"{{"inputs": [{{"name": "{}", "parameters": 1}}]}}"#, r"\/".repeat(OVERSIZED)).into(),
    );
    add(400, &infer, ANY, vec![b'0'; OVERSIZED]);

    let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nx\r\n");
    let form = |parts: &str| format!("{parts}--x--\r\n").into_bytes();
    add(400, "/predict", FORM, form(&part("other").repeat(10_000)));
    add(413, "/predict", FORM, form(&part("file").repeat(10_000)));
    add(400, "/predict", FORM, part("file").into());
    add(400, "/predict", FORM, part("file").repeat(10_000)[..100_000].into());
    add(400, "/predict", FORM, form(&part(&"x".repeat(HEADERS))));
    add(400, "/predict", FORM, vec![b'-'; HEADERS]);
    add(400, "/predict", FORM, b"--x--\r\n".to_vec());
    requests
}

/// Sends one of the invalid requests, and checks the status and the length of the response.
pub async fn request(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let index = index % context.invalid_requests.len();
    let InvalidRequest { status, path, content_type, body } = &context.invalid_requests[index];
    let request = context.http.post(format!("{}{path}", context.url)).header("content-type", *content_type);
    let response = request.body(body.clone()).send().await.with_context(|| format!("request {index}"))?;
    if tally.is_accepted(&response)? {
        let received = response.status();
        let text = response.text().await?;
        ensure!(received == *status, "request {index}, {path}: {received} instead of {status}: {text}");
        ensure!(text.len() < MAX_RESPONSE, "request {index}, {path}: response of {} bytes", text.len());
        tally.count("invalid requests");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
