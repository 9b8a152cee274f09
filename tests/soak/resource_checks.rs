//! Checks of the server's metrics: its memory under load, and that it holds no resources afterwards.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Maximum growth of resident memory in bytes after the first third of the test, in which pools and arenas reach their final
/// sizes. Within two minutes it fluctuates by a third of this; within half an hour a leak would exceed it.
pub const MAX_GROWTH: f64 = 96e6;
/// The same if the allocator returns freed memory at once. Within twenty seconds it fluctuates by a third of this.
pub const MAX_GROWTH_WITHOUT_CACHES: f64 = 48e6;

/// Metrics that must be zero without requests; the last one exists for each of two models.
const ZERO_WHEN_IDLE: [&str; 3] =
    ["shortcut_in_flight_bytes ", "shortcut_decode_queue_depth ", "shortcut_queue_depth{"];
/// Maximum number of open connections without requests, including the one that reads the metrics.
const MAX_IDLE_CONNECTIONS: f64 = 2.0;
/// Time limit for the server to become idle; it closes idle connections after ten seconds.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Compares resident memory in the second and the last third of the test, by the tenth percentile of its samples. Large
/// photos cause peaks of hundreds of megabytes, which this ignores; a leak also shows between the peaks.
pub async fn watch_memory(url: &str, duration: Duration, max_growth: f64) -> Result<String> {
    let mut thirds = [const { Vec::new() }; 3];
    let start = Instant::now();
    while start.elapsed() < duration {
        let third = (3.0 * start.elapsed().as_secs_f64() / duration.as_secs_f64()) as usize;
        thirds[third.min(2)].push(value(&metrics(url).await?, "process_resident_memory_bytes ")?);
        sleep(Duration::from_millis(250)).await;
    }
    let [_, second, last] = thirds.map(tenth_percentile);
    let memory =
        format!("resident memory {:.0} MB in the second third, {:.0} MB in the last", second / 1e6, last / 1e6);
    ensure!(last - second < max_growth, "memory grows: {memory}");
    Ok(memory)
}

fn tenth_percentile(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 10).copied().unwrap_or(0.0)
}

/// Waits until the server is idle, with no memory, photos or connections held, and checks that it never returned 500.
pub async fn check_idle(url: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let metrics = metrics(url).await?;
        let lines = metrics.lines().filter(|line| ZERO_WHEN_IDLE.iter().any(|name| line.starts_with(name)));
        let gauges: Vec<&str> = lines.collect();
        ensure!(gauges.len() == 4, "expected four gauges: {gauges:?}");
        let connections = value(&metrics, "shortcut_connections ")?;
        if gauges.iter().all(|line| line.ends_with(" 0")) && connections <= MAX_IDLE_CONNECTIONS {
            let failed = metrics.lines().find(|line| line.contains(r#"status="500""#));
            ensure!(failed.is_none(), "internal server errors: {failed:?}");
            return Ok(());
        }
        ensure!(start.elapsed() < IDLE_TIMEOUT, "resources still held: {gauges:?}, {connections} connections");
        sleep(Duration::from_millis(250)).await;
    }
}

async fn metrics(url: &str) -> Result<String> {
    Ok(reqwest::get(format!("{url}/metrics")).await?.error_for_status()?.text().await?)
}

/// Returns the value of the metric on the line that starts with `name`.
fn value(metrics: &str, name: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.with_context(|| format!("no metric {name}"))?.parse().context("metric is not a number")
}
