//! Error codes and their statuses.

use crate::http::{SharedServer, form, photo, send};
use crate::test_server::TestServer;
use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::multipart::Form;
use serde::Deserialize;
use std::collections::BTreeMap;
use tests::data;

pub fn malformed(shared: &SharedServer) -> Result<()> {
    for top_k in ["0", "-1", "five", "1.5", ""] {
        let request = shared.post(&format!("/predict?top_k={top_k}"))?.body(photo("cat.jpg")?);
        send(request)?.expect_error(400, "malformed_request")?;
    }
    let request = shared.post("/predict")?.header("content-type", "multipart/form-data").body("no boundary");
    send(request)?.expect_error(400, "malformed_request")?;
    let request = shared.post("/predict")?.header("content-type", "multipart/form-data; boundary=x").body("no form");
    send(request)?.expect_error(400, "malformed_request")?;

    send(shared.post("/predict")?)?.expect_error(400, "nothing_to_classify")?;
    send(shared.post("/predict")?.multipart(form([Vec::new()])))?.expect_error(400, "nothing_to_classify")?;
    send(shared.post("/predict")?.multipart(Form::new().text("name", "cat")))?.expect_error(400, "nothing_to_classify")
}

/// A client that is still sending receives the error of a malformed form.
pub fn malformed_forms(shared: &SharedServer) -> Result<()> {
    let photo = photo("cat.jpg")?;
    let part = |head: &[u8], data: &[u8]| [b"--x\r\n", head, b"\r\n\r\n", data, b"\r\n"].concat();
    let good = part(b"Content-Disposition: form-data; name=\"file\"; filename=\"x\"", &photo);
    let bad = part(b"Content-Disposition: \"", b"");
    let junk = vec![b'-'; 4 << 20];
    let send = |parts: &[&[u8]]| {
        let request = shared.post("/predict")?.header("content-type", "multipart/form-data; boundary=x");
        send(request.body(parts.concat()))
    };
    for parts in [&[&junk[..]][..], &[&bad, &junk], &[&good, &bad, &junk]] {
        send(parts)?.expect_error(400, "malformed_request")?;
    }
    // Bytes after the end of the form are ignored.
    send(&[&good, b"--x--\r\n", &junk])?.json(200)?;
    Ok(())
}

pub fn unknown(shared: &SharedServer) -> Result<()> {
    send(shared.post("/predict?model=nonesuch")?.body(photo("cat.jpg")?))?.expect_error(404, "unknown_model")?;
    send(shared.get("/nowhere")?)?.expect_error(404, "not_found")?;
    send(shared.post("/nowhere")?)?.expect_error(404, "not_found")?;
    send(shared.get("/weights/0000")?)?.expect_error(404, "not_found")
}

pub fn method(shared: &SharedServer) -> Result<()> {
    send(shared.get("/predict")?)?.expect_error(405, "method_not_allowed")?;
    send(shared.post("/models")?)?.expect_error(405, "method_not_allowed")
}

pub fn too_large(shared: &SharedServer) -> Result<()> {
    let many_bytes = vec![0; (20 << 20) + 1];
    send(shared.post("/predict")?.body(many_bytes.clone()))?.expect_error(413, "too_large")?;
    send(shared.post("/predict")?.multipart(form([many_bytes])))?.expect_error(413, "too_large")?;
    send(shared.post("/predict")?.multipart(form(vec![vec![0]; 33])))?.expect_error(413, "too_large")?;
    send(shared.post("/predict")?.body(bmp_header(20_000, 20_000)))?.expect_error(413, "too_large")
}

pub fn unsupported(shared: &SharedServer) -> Result<()> {
    for bytes in ["%PDF-1.7", "<svg xmlns='http://www.w3.org/2000/svg'/>", "x"] {
        // The declared content type is ignored.
        let request = shared.post("/predict")?.header("content-type", "image/jpeg").body(bytes);
        send(request)?.expect_error(415, "unsupported_format")?;
    }
    let compressed = shared.post("/predict")?.header("content-encoding", "br").body(photo("cat.jpg")?);
    send(compressed)?.expect_error(415, "unsupported_encoding")?;
    let uncompressed = shared.post("/predict")?.header("content-encoding", "gzip").body(photo("cat.jpg")?);
    send(uncompressed)?.expect_error(400, "malformed_request")
}

pub fn undecodable(shared: &SharedServer) -> Result<()> {
    send(shared.post("/predict")?.body(photo("cat.jpg")?[..200].to_vec()))?.expect_error(422, "undecodable")?;
    send(shared.post("/predict")?.body(bmp_header(100, 100)))?.expect_error(422, "undecodable")
}

#[derive(Deserialize)]
struct HostileFile {
    file: String,
}

/// The response to every file is a prediction or a client error.
pub fn hostile_files(server: &TestServer) -> Result<()> {
    let files: Vec<HostileFile> = data::read_json("robustness/manifest.json")?;
    let (mut photos, mut reasons) = (0, BTreeMap::<String, usize>::new());
    for HostileFile { file } in &files {
        let response = send(server.post("/predict").body(data::read(&format!("robustness/{file}"))?))?;
        match response.status {
            200 => photos += 1,
            400 | 413 | 415 | 422 => {
                let failure = response.json(response.status)?;
                let code = failure["error"]["code"].as_str().with_context(|| format!("{file}: {failure}"))?;
                *reasons.entry(code.to_owned()).or_default() += 1;
            }
            status => bail!("{file}: {status} {}", response.text()),
        }
    }
    println!("{photos} of {} files were classified; errors: {reasons:?}", files.len());
    ensure!(photos > 100 && reasons.len() > 1, "only {photos} of {} files were classified", files.len());
    Ok(())
}

/// Returns a BMP with 24 bits per pixel that ends before its pixels.
fn bmp_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let planes_and_bits = 1 | 24 << 16;
    for value in [54 + width * height * 3, 0, 54, 40, width, height, planes_and_bits, 0, 0, 0, 0, 0, 0] {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}
