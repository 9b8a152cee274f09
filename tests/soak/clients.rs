//! Who asks the server for what, again and again.

use crate::expected::{Expected, MODEL, PHOTOS};
use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Clients of each kind.
const GOOD: usize = 4;
const OTHERS: usize = 2;

/// How often what happened.
#[derive(Default)]
pub struct Tally {
    /// Photos that were answered rightly, several of a request counted one by one.
    pub good: u64,
    pub tensors: u64,
    pub bad: u64,
    pub aborted: u64,
    slow: u64,
    late: u64,
    refused: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.good += other.good;
        self.tensors += other.tensors;
        self.bad += other.bad;
        self.aborted += other.aborted;
        self.slow += other.slow;
        self.late += other.late;
        self.refused += other.refused;
    }

    /// False, and counted, if the server had too much to do and said so.
    fn took(&mut self, answer: &Response) -> Result<bool> {
        if answer.status() != 503 {
            return Ok(true);
        }
        ensure!(answer.headers().get("retry-after").is_some(), "503 without Retry-After");
        self.refused += 1;
        Ok(false)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Tally { good, tensors, bad, aborted, slow, late, refused } = self;
        write!(
            f,
            "{good} photos and {tensors} tensors right, {bad} bad requests told so, {aborted} given up, {slow} slow, \
             {late} too late, {refused} refused"
        )
    }
}

/// What a client needs.
#[derive(Clone)]
struct Visit {
    client: Client,
    url: String,
    expected: Arc<Expected>,
}

pub fn start(url: &str, expected: &Arc<Expected>, until: Instant) -> JoinSet<Result<Tally>> {
    let visit = Visit { client: Client::new(), url: url.to_owned(), expected: expected.clone() };
    let mut clients = JoinSet::new();
    for number in 0..GOOD {
        clients.spawn(repeat(visit.clone(), until, number, one));
    }
    for number in 0..OTHERS {
        clients.spawn(repeat(visit.clone(), until, number, several));
        clients.spawn(repeat(visit.clone(), until, number, tensors));
        clients.spawn(repeat(visit.clone(), until, number, bad));
        clients.spawn(repeat(visit.clone(), until, number, aborted));
        clients.spawn(repeat(visit.clone(), until, number, slow));
        clients.spawn(repeat(visit.clone(), until, number, late));
    }
    clients
}

async fn repeat(
    visit: Visit,
    until: Instant,
    number: usize,
    ask: impl AsyncFn(&Visit, usize, &mut Tally) -> Result<()>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = number;
    while Instant::now() < until {
        ask(&visit, count, &mut tally).await?;
        count += 1;
    }
    Ok(tally)
}

async fn one(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = count % PHOTOS.len();
    let answer =
        visit.client.post(format!("{}/predict?top_k=10", visit.url)).body(visit.expected.photos[photo].clone());
    let answer = answer.send().await?;
    if tally.took(&answer)? {
        let answer: Value = json_of(answer).await?;
        visit.expected.check(photo, &answer)?;
        tally.good += 1;
    }
    Ok(())
}

/// Three photos and one that is none, in a JSON document.
async fn several(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    use base64::Engine;
    let photos: Vec<usize> = (0..3).map(|index| (count + index) % PHOTOS.len()).collect();
    let encoded = |photo: &usize| base64::engine::general_purpose::STANDARD.encode(&visit.expected.photos[*photo]);
    let mut images: Vec<String> = photos.iter().map(encoded).collect();
    images.push("bm8gcGhvdG8=".to_owned());
    let request = visit.client.post(format!("{}/predict?top_k=10", visit.url)).json(&json!({ "images": images }));
    let answer = request.send().await?;
    if tally.took(&answer)? {
        let answer = json_of(answer).await?;
        let results = answer["results"].as_array().context("no results")?;
        for (photo, result) in photos.iter().zip(results) {
            visit.expected.check(*photo, result)?;
            tally.good += 1;
        }
        ensure!(results[3]["error"]["code"] == "unsupported_format", "{}", results[3]);
    }
    Ok(())
}

/// A tensor of several images, binary.
async fn tensors(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photos: Vec<usize> = (0..1 + count % 3).map(|index| (count + index) % PHOTOS.len()).collect();
    let binary: Vec<u8> = photos.iter().flat_map(|photo| &visit.expected.tensors[*photo]).copied().collect();
    let json = json!({
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [photos.len(), 224, 224, 3],
            "parameters": { "binary_data_size": binary.len() },
        }],
        "outputs": [{ "name": "logits", "parameters": { "classification": 10 } }],
    })
    .to_string();
    let request = visit.client.post(format!("{}/v2/models/{MODEL}/infer", visit.url));
    let request = request.header("inference-header-content-length", json.len());
    let answer = request.body([json.into_bytes(), binary].concat()).send().await?;
    if tally.took(&answer)? {
        let answer = json_of(answer).await?;
        let classes = answer["outputs"][0]["data"].as_array().context("no classes")?;
        for (photo, classes) in photos.iter().zip(classes.chunks(10)) {
            visit.expected.check_classes(*photo, &answer["model_version"], classes)?;
            tally.tensors += 1;
        }
    }
    Ok(())
}

async fn bad(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = &visit.expected.photos[count % PHOTOS.len()];
    let infer = format!("/v2/models/{MODEL}/infer");
    let requests: [(&str, Vec<u8>, u16); 6] = [
        ("/predict", b"no photo".to_vec(), 415),
        ("/predict", photo[..photo.len() / 3].to_vec(), 422),
        ("/predict?model=nonesuch", photo.clone(), 404),
        ("/predict?top_k=none", photo.clone(), 400),
        (&infer, b"{\"inputs\": [}".to_vec(), 400),
        ("/predict", vec![0xff; 21_000_000], 413),
    ];
    let (path, body, status) = requests.into_iter().nth(count % 6).context("there are six")?;
    let answer = visit.client.post(format!("{}{path}", visit.url)).body(body).send().await?;
    if tally.took(&answer)? {
        ensure!(answer.status() == status, "{path}: {} instead of {status}: {}", answer.status(), answer.text().await?);
        tally.bad += 1;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// Goes away while the photo is still being sent, or while it waits.
async fn aborted(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = &visit.expected.photos[count % PHOTOS.len()];
    let mut connection = TcpStream::connect(visit.url.trim_start_matches("http://")).await?;
    let head = format!("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", photo.len());
    connection.write_all(head.as_bytes()).await?;
    let sent = if count.is_multiple_of(2) { photo.len() } else { photo.len() / 2 };
    connection.write_all(&photo[..sent]).await?;
    tokio::time::sleep(Duration::from_millis(count as u64 % 40)).await;
    tally.aborted += 1;
    Ok(())
}

/// Sends a photo in small pieces, and is answered like everybody else.
async fn slow(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = count % PHOTOS.len();
    let bytes = &visit.expected.photos[photo];
    let mut connection = TcpStream::connect(visit.url.trim_start_matches("http://")).await?;
    let head = format!(
        "POST /predict?top_k=10 HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    connection.write_all(head.as_bytes()).await?;
    for piece in bytes.chunks(bytes.len() / 10 + 1) {
        connection.write_all(piece).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    match head.split(' ').nth(1) {
        Some("200") => {
            visit.expected.check(photo, &serde_json::from_str(body)?)?;
            tally.slow += 1;
        }
        Some("503") => tally.refused += 1,
        _ => bail!("{answer}"),
    }
    Ok(())
}

/// Waits no longer than it takes at best.
async fn late(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = count % PHOTOS.len();
    let request = visit.client.post(format!("{}/predict?top_k=10", visit.url)).header("x-timeout-ms", 20 + count % 100);
    let answer = request.body(visit.expected.photos[photo].clone()).send().await?;
    if tally.took(&answer)? {
        if answer.status() == 504 {
            tally.late += 1;
        } else {
            visit.expected.check(photo, &json_of(answer).await?)?;
            tally.good += 1;
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

async fn json_of(answer: Response) -> Result<Value> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
