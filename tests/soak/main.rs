//! A server under everything at once: good photos, small and large, bad and hostile requests, slow and aborted ones, tensors,
//! and models that are replaced meanwhile. Every answer must be the one of its own photo and of the checkpoint that it names,
//! nothing may fail but what is meant to, memory must not grow, and nothing may be left behind. For two minutes, or for
//! `SHORTCUT_SOAK_SECONDS`.

mod changes;
mod clients;
mod expected;
mod levels;
mod photos;

use anyhow::{Context, Result, ensure};
use changes::{BY_HAND, Changes, TOKEN, WATCHED};
use clients::Tally;
use expected::Expected;
use libtest_mimic::{Arguments, Trial};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::server::{self, Server};

const VARIABLE: &str = "SHORTCUT_SOAK_SECONDS";
const SECONDS: u64 = 120;

fn main() {
    let trial = Trial::test("every_answer_is_right_and_memory_is_flat_under_everything_at_once", || {
        Ok(soak().map_err(|error| format!("{error:#}"))?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn soak() -> Result<()> {
    let seconds = std::env::var(VARIABLE).map_or(Ok(SECONDS), |text| text.parse().context(VARIABLE))?;
    let folder = tempfile::tempdir()?;
    let checkpoints = expected::checkpoints()?;
    changes::put(folder.path(), BY_HAND, &checkpoints[0])?;
    changes::put(folder.path(), WATCHED, &checkpoints[0])?;
    let mut server = start(folder.path().to_str().context("the path is no text")?)?;
    let changes = Arc::new(Changes { url: server.url().to_owned(), folder, checkpoints });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(everything(&changes, Duration::from_secs(seconds)))?;
    ensure!(server.process().try_wait()?.is_none(), "the server has ended");
    Ok(())
}

/// With small queues, so that they are full now and then, and two engines that draw from each. What is refused is not logged.
fn start(folder: &str) -> Result<Server> {
    let models = ["--models", folder, "--default", BY_HAND, "--watch", "1s", "--admin-token", TOKEN];
    let small = ["--queue-size", "12", "--decode-queue", "12", "--replicas", "2", "--log", "error"];
    let mut command = server::command()?;
    command.args(models).args(small);
    Server::run(command)
}

async fn everything(changes: &Arc<Changes>, total: Duration) -> Result<()> {
    let url = &changes.url;
    let expected = Arc::new(Expected::ask(changes).await?);
    let until = Instant::now() + total;
    let mut clients = clients::start(url, &expected, until);
    let replaced = tokio::spawn({
        let changes = changes.clone();
        async move { changes.repeat(until).await }
    });
    let memory = levels::watch_memory(url, total).await;
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.add(client??);
    }
    let replaced = replaced.await??;
    println!("{:?}, while models were replaced {replaced} times; {}", tally.counts, memory?);
    tally.check()?;
    ensure!(replaced >= total.as_secs() / 20, "models were replaced {replaced} times only");
    levels::nothing_is_left(url).await
}
