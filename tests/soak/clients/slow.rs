//! Clients that send or receive slowly, disconnect early, or set a short deadline.

use super::{ClientContext, REJECTED, Tally, successful_json};
use crate::model_updates::LOADED_MODEL;
use crate::photos::SAMPLES;
use anyhow::{Context, Result, bail, ensure};
use model::prediction::ModelId;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Number of pieces in which a photo is sent, and number of pauses while a response is received.
const PIECES: usize = 10;
/// Pause after each piece.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a connection and sends the head of a request whose body has `length` bytes.
async fn send_head(context: &ClientContext, line: &str, length: usize) -> Result<TcpStream> {
    let mut connection = TcpStream::connect(context.url.trim_start_matches("http://")).await?;
    let head = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    Ok(connection)
}

/// Receives a response, the first bytes one by one with pauses, and returns its status and body.
async fn receive_slowly(connection: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut response = Vec::new();
    for _ in 0..PIECES {
        response.push(connection.read_u8().await?);
        sleep(PAUSE).await;
    }
    connection.read_to_end(&mut response).await?;
    let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("incomplete response")?;
    let body = response.split_off(head + 4);
    Ok((String::from_utf8(response)?.split(' ').nth(1).context("no status")?.to_owned(), body))
}

/// Sends a photo in small pieces, and receives the response slowly.
pub async fn upload(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let photo = index % SAMPLES.len();
    let bytes = &context.expected.photos[photo];
    let mut connection = send_head(context, "POST /predict?top_k=10", bytes.len()).await?;
    for piece in bytes.chunks(bytes.len() / PIECES + 1) {
        connection.write_all(piece).await?;
        sleep(PAUSE).await;
    }
    let (status, body) = receive_slowly(&mut connection).await?;
    match status.as_str() {
        "200" => {
            context.expected.check(LOADED_MODEL, photo, &serde_json::from_slice(&body)?)?;
            tally.count("slow photos");
        }
        "503" => tally.count(REJECTED),
        _ => bail!("{status}: {}", String::from_utf8_lossy(&body)),
    }
    Ok(())
}

/// Downloads a checkpoint slowly. It is larger than all buffers between server and client, and may be replaced during
/// the download.
pub async fn download(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let version = context.expected.versions()[index % 2];
    let (status, body) = receive_slowly(&mut send_head(context, &format!("GET /weights/{version}"), 0).await?).await?;
    if status == "200" {
        ensure!(ModelId::from_bytes("", &body).version == version, "received a corrupted checkpoint");
        tally.count("checkpoints");
    } else {
        // Neither model uses this checkpoint at the moment.
        ensure!(status == "404", "{status} for a checkpoint");
    }
    Ok(())
}

/// Disconnects, either during the upload or while the photo is being processed.
pub async fn aborted(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let photo = &context.expected.photos[index / 2 % context.expected.photos.len()];
    let mut connection = send_head(context, "POST /predict", photo.len()).await?;
    let sent = if index.is_multiple_of(2) { photo.len() } else { photo.len() / 2 };
    connection.write_all(&photo[..sent]).await?;
    sleep(Duration::from_millis(index as u64 % 40)).await;
    tally.count("aborted requests");
    Ok(())
}

/// Sets a deadline about as short as the fastest response.
pub async fn short_deadline(context: &ClientContext, index: usize, tally: &mut Tally) -> Result<()> {
    let photo = index % SAMPLES.len();
    let request =
        context.http.post(format!("{}/predict?top_k=10", context.url)).header("x-timeout-ms", 20 + index % 100);
    let response = request.body(context.expected.photos[photo].clone()).send().await?;
    if tally.is_accepted(&response)? {
        if response.status() == 504 {
            tally.count("timeouts");
        } else {
            context.expected.check(LOADED_MODEL, photo, &successful_json(response).await?)?;
            tally.count("photos");
        }
    }
    sleep(PAUSE).await;
    Ok(())
}
