//! Who asks what cannot be answered, by mistake or to do harm. Each is told what was wrong, in few words.

use super::{Tally, Visit};
use crate::changes::BY_HAND;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

const JSON: &str = "application/json";
const FORM: &str = "multipart/form-data; boundary=x";
const ANY: &str = "application/octet-stream";

/// Bytes of what is larger than anything that is meant well.
const MUCH: usize = 4 << 20;
/// Bytes of a form's headers, far more than may be.
const HEADERS: usize = 4 << 20;
/// Bytes of the longest answer; much of a request must not come back.
const LONGEST: usize = 2000;

/// A request with the status that it gets.
pub struct Bad(u16, String, &'static str, Vec<u8>);

/// Made once, for some are large.
pub fn all(photo: &[u8]) -> Vec<Bad> {
    let mut all = Vec::new();
    let mut add = |status, path: &str, kind, body: Vec<u8>| all.push(Bad(status, path.to_owned(), kind, body));
    add(415, "/predict", ANY, b"no photo".to_vec());
    add(422, "/predict", ANY, photo[..photo.len() / 3].to_vec());
    add(404, "/predict?model=nonesuch", ANY, photo.to_vec());
    add(400, "/predict?top_k=none", ANY, photo.to_vec());
    add(413, "/predict", ANY, vec![0xff; 21_000_000]);
    add(415, "/predict", ANY, vec![0xff; MUCH]);

    let deep = "[".repeat(MUCH);
    let rubbish = "A".repeat(MUCH);
    add(400, "/predict", JSON, deep.clone().into());
    add(400, "/predict", JSON, format!(r#"{{"images": {deep}"#).into());
    add(400, "/predict", JSON, format!(r#"{{"images": {deep}{}}}"#, "]".repeat(MUCH)).into());
    add(400, "/predict", JSON, format!(r#"{{"{rubbish}": 1}}"#).into());
    add(400, "/predict", JSON, format!("\"{rubbish}\"").into());
    add(400, "/predict", JSON, br#"{"image": null, "images": null}"#.to_vec());
    add(400, "/predict", JSON, format!(r#"{{"images": [{}1]}}"#, "1,".repeat(MUCH / 2)).into());
    add(413, "/predict", JSON, format!(r#"{{"images": [{}""]}}"#, r#""","#.repeat(MUCH / 3)).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{rubbish}"}}"#).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, r"\/".repeat(MUCH)).into());
    add(415, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, r"\u0041".repeat(MUCH / 2)).into());
    add(400, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, "!".repeat(MUCH)).into());
    add(422, "/predict", JSON, format!(r#"{{"image": "{}"}}"#, STANDARD.encode(&photo[..photo.len() / 3])).into());

    let infer = format!("/v2/models/{BY_HAND}/infer");
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
    tensor(400, "input", "FP32", one, &format!("\"{rubbish}\""));
    tensor(400, "input", "FP32", one, &format!("[{}1e999]", "0.5,".repeat(100_000)));
    tensor(400, "input", "FP32", one, &deep);
    tensor(400, "input", "FP32", one, &format!("{}{}", "[".repeat(MUCH / 2), "]".repeat(MUCH / 2)));
    tensor(400, "input", "FP32", &numbers(1_000_000), &image);
    tensor(400, "input", "FP32", "[18446744073709551615, 3, 224, 18446744073709551615]", &image);
    tensor(413, "input", "FP32", "[18446744073709551615, 3, 224, 224]", &image);
    tensor(400, "input", &rubbish, one, &image);
    tensor(400, &rubbish, "FP32", one, &image);
    tensor(422, "input", "FP32", one, &format!("[{}3e38]", "3e38,".repeat(3 * 224 * 224 - 1)));
    tensor(400, "images", "UINT8", "[1, 224, 224, 3]", &image);
    add(400, &infer, JSON, b"{\"inputs\": [}".to_vec());
    add(400, &infer, JSON, format!(r#"{{"inputs": [{}{{}}]}}"#, "{},".repeat(MUCH / 3)).into());
    add(400, &infer, JSON, format!(r#"{{"id": "{rubbish}", "inputs": null}}"#).into());
    add(400, &infer, JSON, format!(r#"{{"inputs": "{rubbish}"}}"#).into());
    add(400, &infer, JSON, format!(r#"{{"inputs": [{{"name": "{}", "parameters": 1}}]}}"#, r"\/".repeat(MUCH)).into());
    add(400, &infer, ANY, vec![b'0'; MUCH]);

    let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nx\r\n");
    let form = |parts: &str| format!("{parts}--x--\r\n").into_bytes();
    add(400, "/predict", FORM, form(&part("other").repeat(10_000)));
    add(413, "/predict", FORM, form(&part("file").repeat(10_000)));
    add(400, "/predict", FORM, part("file").into());
    add(400, "/predict", FORM, part("file").repeat(10_000)[..100_000].into());
    add(400, "/predict", FORM, form(&part(&"x".repeat(HEADERS))));
    add(400, "/predict", FORM, vec![b'-'; HEADERS]);
    add(400, "/predict", FORM, b"--x--\r\n".to_vec());
    all
}

pub async fn one(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let number = count % visit.bad.len();
    let Bad(status, path, kind, body) = &visit.bad[number];
    let request = visit.client.post(format!("{}{path}", visit.url)).header("content-type", *kind).body(body.clone());
    let answer = request.send().await.with_context(|| format!("number {number}"))?;
    if tally.took(&answer)? {
        let found = answer.status();
        let text = answer.text().await?;
        ensure!(found == *status, "number {number}, {path}: {found} instead of {status}: {text}");
        ensure!(text.len() < LONGEST, "number {number}, {path}: {} bytes of an answer", text.len());
        tally.count("bad requests");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
