//! A server under everything at once: good photos, bad ones, slow and aborted requests, tensors, and models that are replaced
//! meanwhile. Every answer must be the one of its own photo and of the weights that it names, nothing may fail but what is
//! meant to, and memory must not grow. For two minutes, or for `SHORTCUT_SOAK_SECONDS`.

mod clients;
mod expected;

use anyhow::{Context, Result, ensure};
use clients::Tally;
use expected::Expected;
use libtest_mimic::{Arguments, Trial};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::server::Server;
use tests::workspace;

const VARIABLE: &str = "SHORTCUT_SOAK_SECONDS";
const SECONDS: u64 = 120;
pub const TOKEN: &str = "hush";

/// How often models are replaced.
const CHANGE: Duration = Duration::from_millis(1500);
/// By how much resident memory may grow behind the first third, in which pools and arenas find their sizes.
const GROWTH: f64 = 48e6;

fn main() {
    let trial = Trial::test("every_answer_is_right_and_memory_is_flat_under_everything_at_once", || {
        Ok(soak().map_err(|error| format!("{error:#}"))?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn soak() -> Result<()> {
    let seconds = std::env::var(VARIABLE).map_or(Ok(SECONDS), |text| text.parse().context(VARIABLE))?;
    let folder = tempfile::tempdir()?;
    let weights = expected::weights()?;
    put(&folder, &weights[0])?;
    let path = folder.path().to_str().context("the path is no text")?;
    // Small queues, so that they are full now and then.
    let settings = ["--models", path, "--admin-token", TOKEN, "--queue-size", "12", "--decode-queue", "12"];
    let mut server = Server::start_with(settings)?;
    let url = server.url().to_owned();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tally = runtime.block_on(async {
        let expected = Arc::new(Expected::ask(&url, &folder, &weights).await?);
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut clients = clients::start(&url, &expected, until);
        let changes = tokio::spawn(change(url.clone(), folder, weights, until));
        let memory = watch_memory(&url, Duration::from_secs(seconds)).await?;
        let mut tally = Tally::default();
        while let Some(client) = clients.join_next().await {
            tally.add(&client??);
        }
        let changed = changes.await??;
        println!("{tally}, while the model was replaced {changed} times; {memory}");
        ensure!(changed >= seconds / 10, "the model was replaced {changed} times only");
        anyhow::Ok(tally)
    })?;
    ensure!(
        tally.good > 50 && tally.tensors > 10 && tally.bad > 10 && tally.aborted > 10,
        "too little happened: {tally}"
    );
    ensure!(server.process().try_wait()?.is_none(), "the server has ended");
    Ok(())
}

fn put(folder: &TempDir, weights: &[u8]) -> Result<()> {
    let next = folder.path().join("next");
    std::fs::write(&next, weights)?;
    Ok(std::fs::rename(next, folder.path().join(format!("{}.safetensors", expected::MODEL)))?)
}

/// Replaces the model by one and the other, and by what is none.
async fn change(url: String, folder: TempDir, weights: [Vec<u8>; 2], until: Instant) -> Result<u64> {
    let client = reqwest::Client::new();
    let load = format!("{url}/v2/repository/models/{}/load", expected::MODEL);
    let mut changed = 0;
    while Instant::now() < until {
        for (next, status) in [(&weights[1][..], 200), (b"no checkpoint", 422), (&weights[0], 200)] {
            put(&folder, next)?;
            let answer = client.post(&load).bearer_auth(TOKEN).send().await?;
            ensure!(answer.status() == status, "{} instead of {status}: {}", answer.status(), answer.text().await?);
            changed += u64::from(status == 200);
            tokio::time::sleep(CHANGE).await;
        }
    }
    Ok(changed)
}

/// Resident memory of the server behind the first third, and at the end.
async fn watch_memory(url: &str, total: Duration) -> Result<String> {
    let mut peaks = [0f64; 3];
    let begun = Instant::now();
    while begun.elapsed() < total {
        let third = (3.0 * begun.elapsed().as_secs_f64() / total.as_secs_f64()) as usize;
        let text = reqwest::get(format!("{url}/metrics")).await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        let bytes: f64 = line.context("no memory in the metrics")?.parse()?;
        peaks[third.min(2)] = peaks[third.min(2)].max(bytes);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let [_, second, last] = peaks;
    let memory =
        format!("resident memory {:.0} MB at most in the second third, {:.0} in the last", second / 1e6, last / 1e6);
    ensure!(last - second < GROWTH, "memory grows: {memory}");
    Ok(memory)
}

/// A photo of the bundled samples.
pub fn photo(name: &str) -> Result<Vec<u8>> {
    Ok(std::fs::read(workspace::sample(name))?)
}
