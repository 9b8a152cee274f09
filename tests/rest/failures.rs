//! Every code of an error, and the status that goes with it.

use crate::own::Own;
use crate::shared::{Shared, answer, form, photo};
use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::multipart::Form;
use serde::Deserialize;
use std::collections::BTreeMap;
use tests::data;

pub fn malformed(shared: &Shared) -> Result<()> {
    for top_k in ["0", "-1", "five", "1.5", ""] {
        let request = shared.post(&format!("/predict?top_k={top_k}"))?.body(photo("cat.jpg")?);
        answer(request)?.failure(400, "malformed_request")?;
    }
    let request = shared.post("/predict")?.header("content-type", "multipart/form-data").body("no boundary");
    answer(request)?.failure(400, "malformed_request")?;
    let request = shared.post("/predict")?.header("content-type", "multipart/form-data; boundary=x").body("no form");
    answer(request)?.failure(400, "malformed_request")?;

    answer(shared.post("/predict")?)?.failure(400, "nothing_to_classify")?;
    answer(shared.post("/predict")?.multipart(form([Vec::new()])))?.failure(400, "nothing_to_classify")?;
    answer(shared.post("/predict")?.multipart(Form::new().text("name", "cat")))?.failure(400, "nothing_to_classify")
}

/// A client that is still sending sees why.
pub fn broken_forms(shared: &Shared) -> Result<()> {
    let photo = photo("cat.jpg")?;
    let part = |head: &[u8], data: &[u8]| [b"--x\r\n", head, b"\r\n\r\n", data, b"\r\n"].concat();
    let good = part(b"Content-Disposition: form-data; name=\"file\"; filename=\"x\"", &photo);
    let bad = part(b"Content-Disposition: \"", b"");
    let junk = vec![b'-'; 4 << 20];
    let send = |parts: &[&[u8]]| {
        let request = shared.post("/predict")?.header("content-type", "multipart/form-data; boundary=x");
        answer(request.body(parts.concat()))
    };
    for parts in [&[&junk[..]][..], &[&bad, &junk], &[&good, &bad, &junk]] {
        send(parts)?.failure(400, "malformed_request")?;
    }
    // What follows the end of a form is nobody's.
    send(&[&good, b"--x--\r\n", &junk])?.json(200)?;
    Ok(())
}

pub fn unknown(shared: &Shared) -> Result<()> {
    answer(shared.post("/predict?model=nonesuch")?.body(photo("cat.jpg")?))?.failure(404, "unknown_model")?;
    answer(shared.get("/nowhere")?)?.failure(404, "not_found")?;
    answer(shared.post("/nowhere")?)?.failure(404, "not_found")?;
    answer(shared.get("/weights/0000")?)?.failure(404, "not_found")
}

pub fn method(shared: &Shared) -> Result<()> {
    answer(shared.get("/predict")?)?.failure(405, "method_not_allowed")?;
    answer(shared.post("/models")?)?.failure(405, "method_not_allowed")
}

pub fn too_large(shared: &Shared) -> Result<()> {
    let many_bytes = vec![0; (20 << 20) + 1];
    answer(shared.post("/predict")?.body(many_bytes.clone()))?.failure(413, "too_large")?;
    answer(shared.post("/predict")?.multipart(form([many_bytes])))?.failure(413, "too_large")?;
    answer(shared.post("/predict")?.multipart(form(vec![vec![0]; 33])))?.failure(413, "too_large")?;
    answer(shared.post("/predict")?.body(bmp_header(20_000, 20_000)))?.failure(413, "too_large")
}

pub fn unsupported(shared: &Shared) -> Result<()> {
    for bytes in ["%PDF-1.7", "<svg xmlns='http://www.w3.org/2000/svg'/>", "x"] {
        // Whatever the client says that it is.
        let request = shared.post("/predict")?.header("content-type", "image/jpeg").body(bytes);
        answer(request)?.failure(415, "unsupported_format")?;
    }
    let packed = shared.post("/predict")?.header("content-encoding", "gzip").body(photo("cat.jpg")?);
    answer(packed)?.failure(415, "unsupported_encoding")
}

pub fn undecodable(shared: &Shared) -> Result<()> {
    answer(shared.post("/predict")?.body(photo("cat.jpg")?[..200].to_vec()))?.failure(422, "undecodable")?;
    answer(shared.post("/predict")?.body(bmp_header(100, 100)))?.failure(422, "undecodable")
}

#[derive(Deserialize)]
struct HostileFile {
    file: String,
}

/// Every file is answered, with a prediction or with a reason that is its sender's.
pub fn hostile_files() -> Result<()> {
    let own = Own::start([])?;
    let files: Vec<HostileFile> = data::read_json("robustness/manifest.json")?;
    let (mut photos, mut reasons) = (0, BTreeMap::<String, usize>::new());
    for HostileFile { file } in &files {
        let answer = answer(own.post("/predict").body(data::read(&format!("robustness/{file}"))?))?;
        match answer.status {
            200 => photos += 1,
            400 | 413 | 415 | 422 => {
                let failure = answer.json(answer.status)?;
                let code = failure["error"]["code"].as_str().with_context(|| format!("{file}: {failure}"))?;
                *reasons.entry(code.to_owned()).or_default() += 1;
            }
            status => bail!("{file}: {status} {}", answer.text()),
        }
    }
    println!("{photos} of {} files are photos; {reasons:?}", files.len());
    ensure!(photos > 100 && reasons.len() > 1, "{photos} of {} files are photos", files.len());
    Ok(())
}

/// A photo of 24 bits a pixel that ends where its pixels would begin.
fn bmp_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let planes_and_bits = 1 | 24 << 16;
    for value in [54 + width * height * 3, 0, 54, 40, width, height, planes_and_bits, 0, 0, 0, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}
