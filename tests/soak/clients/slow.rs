//! Who takes long to ask or to listen, and who goes before there is an answer.

use super::{REFUSED, Tally, Visit, json_of};
use crate::changes::BY_HAND;
use crate::photos::SAMPLES;
use anyhow::{Context, Result, bail, ensure};
use model::prediction::ModelId;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

const PIECES: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that has said this, behind which so many bytes are to follow.
async fn say(visit: &Visit, line: &str, length: usize) -> Result<TcpStream> {
    let mut connection = TcpStream::connect(visit.url.trim_start_matches("http://")).await?;
    let head = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await?;
    Ok(connection)
}

/// Status and body of an answer of which a byte is taken now and then, and after a while the rest.
async fn listen(connection: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut answer = Vec::new();
    for _ in 0..PIECES {
        answer.push(connection.read_u8().await?);
        sleep(PAUSE).await;
    }
    connection.read_to_end(&mut answer).await?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no answer")?;
    let body = answer.split_off(head + 4);
    Ok((String::from_utf8(answer)?.split(' ').nth(1).context("no status")?.to_owned(), body))
}

/// Sends a photo in small pieces, and takes the answer in smaller ones.
pub async fn sender(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = count % SAMPLES.len();
    let bytes = &visit.expected.photos[photo];
    let mut connection = say(visit, "POST /predict?top_k=10", bytes.len()).await?;
    for piece in bytes.chunks(bytes.len() / PIECES + 1) {
        connection.write_all(piece).await?;
        sleep(PAUSE).await;
    }
    let (status, body) = listen(&mut connection).await?;
    match status.as_str() {
        "200" => {
            visit.expected.check(BY_HAND, photo, &serde_json::from_slice(&body)?)?;
            tally.count("slow photos");
        }
        "503" => tally.count(REFUSED),
        _ => bail!("{status}: {}", String::from_utf8_lossy(&body)),
    }
    Ok(())
}

/// Takes a checkpoint slowly, which no buffer on the way holds, and which may be replaced meanwhile.
pub async fn reader(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let version = visit.expected.versions()[count % 2];
    let (status, body) = listen(&mut say(visit, &format!("GET /weights/{version}"), 0).await?).await?;
    if status == "200" {
        ensure!(ModelId::of_bytes("", &body).version == version, "a checkpoint came otherwise than it is");
        tally.count("checkpoints");
    } else {
        // Neither model has it at the moment.
        ensure!(status == "404", "{status} for a checkpoint");
    }
    Ok(())
}

/// Goes away while the photo is still being sent, or while it waits.
pub async fn aborted(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = &visit.expected.photos[count / 2 % visit.expected.photos.len()];
    let mut connection = say(visit, "POST /predict", photo.len()).await?;
    let sent = if count.is_multiple_of(2) { photo.len() } else { photo.len() / 2 };
    connection.write_all(&photo[..sent]).await?;
    sleep(Duration::from_millis(count as u64 % 40)).await;
    tally.count("given up");
    Ok(())
}

/// Waits no longer than it takes at best.
pub async fn late(visit: &Visit, count: usize, tally: &mut Tally) -> Result<()> {
    let photo = count % SAMPLES.len();
    let request = visit.client.post(format!("{}/predict?top_k=10", visit.url)).header("x-timeout-ms", 20 + count % 100);
    let answer = request.body(visit.expected.photos[photo].clone()).send().await?;
    if tally.took(&answer)? {
        if answer.status() == 504 {
            tally.count("too late");
        } else {
            visit.expected.check(BY_HAND, photo, &json_of(answer).await?)?;
            tally.count("photos");
        }
    }
    sleep(PAUSE).await;
    Ok(())
}
