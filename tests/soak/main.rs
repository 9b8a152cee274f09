//! Soak test: one server under a mixed load of small and large photos, tensors, invalid and malicious requests, slow
//! and aborted clients, while its models are replaced. Every response must match its own photo and the checkpoint that
//! it names, only the expected requests may fail, memory must not grow, and no resources may be held afterwards. Runs
//! for twenty seconds, or for `SHORTCUT_SOAK_SECONDS`.

mod clients;
mod expected;
mod model_updates;
mod photos;
mod resource_checks;

use anyhow::{Context, Result, ensure};
use clients::Tally;
use expected::ExpectedPredictions;
use libtest_mimic::{Arguments, Trial};
use model_updates::{ADMIN_TOKEN, LOADED_MODEL, ModelUpdates, WATCHED_MODEL};
use resource_checks::{MAX_GROWTH, MAX_GROWTH_WITHOUT_CACHES};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::server::{self, Server};

const SECONDS_VARIABLE: &str = "SHORTCUT_SOAK_SECONDS";
const DEFAULT_SECONDS: u64 = 20;

/// Duration in seconds from which on the allocator keeps freed memory as in production. In shorter tests its caches would
/// fluctuate by more than a leak, so that it returns freed memory at once.
const CACHING_SECONDS: u64 = 120;

fn main() {
    let trial = Trial::test("responses_are_correct_and_memory_is_stable_under_mixed_load", || {
        Ok(soak().map_err(|error| format!("{error:#}"))?)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn soak() -> Result<()> {
    let seconds =
        std::env::var(SECONDS_VARIABLE).map_or(Ok(DEFAULT_SECONDS), |text| text.parse().context(SECONDS_VARIABLE))?;
    let folder = tempfile::tempdir()?;
    let checkpoints = expected::checkpoints()?;
    model_updates::write_checkpoint(folder.path(), LOADED_MODEL, &checkpoints[0])?;
    model_updates::write_checkpoint(folder.path(), WATCHED_MODEL, &checkpoints[0])?;
    let returns_memory = seconds < CACHING_SECONDS;
    let mut server = start_server(folder.path().to_str().context("path is not UTF-8")?, returns_memory)?;
    let updates = Arc::new(ModelUpdates { url: server.url().to_owned(), folder, checkpoints });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let max_growth = if returns_memory { MAX_GROWTH_WITHOUT_CACHES } else { MAX_GROWTH };
    runtime.block_on(run_load(&updates, Duration::from_secs(seconds), max_growth))?;
    ensure!(server.process().try_wait()?.is_none(), "the server has exited");
    Ok(())
}

/// Starts a server whose queues are small enough to fill up now and then, with two engines per queue. Logs errors only,
/// because rejected requests are expected. If `returns_memory` is set, the allocator returns freed memory at once.
fn start_server(folder: &str, returns_memory: bool) -> Result<Server> {
    let models = ["--models", folder, "--default", LOADED_MODEL, "--watch", "500ms", "--admin-token", ADMIN_TOKEN];
    let limits = ["--queue-size", "12", "--decode-queue", "12", "--replicas", "2", "--log", "error"];
    let mut command = server::command()?;
    command.args(models).args(limits);
    if returns_memory {
        // Sizes in bytes of the blocks for which glibc uses no cache.
        command.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_TRIM_THRESHOLD_", "65536");
    }
    Server::run(command)
}

async fn run_load(updates: &Arc<ModelUpdates>, duration: Duration, max_growth: f64) -> Result<()> {
    let url = &updates.url;
    let expected = Arc::new(ExpectedPredictions::collect(updates).await?);
    let end = Instant::now() + duration;
    let mut clients = clients::start(url, &expected, end);
    let update_count = tokio::spawn({
        let updates = updates.clone();
        async move { updates.repeat_until(end).await }
    });
    let memory = resource_checks::watch_memory(url, duration, max_growth).await;
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        tally.add(client??);
    }
    let update_count = update_count.await??;
    println!("{:?}, {update_count} model updates; {}", tally.counts, memory?);
    tally.check()?;
    ensure!(update_count >= duration.as_secs() / 10, "only {update_count} model updates");
    resource_checks::check_idle(url).await
}
