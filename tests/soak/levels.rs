//! What the server says of itself: its memory meanwhile, and what is left in it behind everything.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// By how much resident memory may grow behind the first third, in which pools and arenas find their sizes. In two minutes it comes
/// and goes by a third of that; in half an hour a leak would show.
const GROWTH: f64 = 96e6;

/// What must be zero when nobody asks; the last one is there for each of two models.
const HELD: [&str; 3] = ["shortcut_in_flight_bytes ", "shortcut_decode_queue_depth ", "shortcut_queue_depth{"];
/// Connections that may be open then, the one that asks among them.
const FEW: f64 = 2.0;
/// How long that may take: connections on which nothing is asked are closed behind ten seconds.
const SOON: Duration = Duration::from_secs(30);

/// Resident memory in the second third and in the last: in a tenth of the time there is less. Large photos make peaks of hundreds of
/// megabytes, which tell nothing; what leaks is there when they are not, too.
pub async fn watch_memory(url: &str, total: Duration) -> Result<String> {
    let mut thirds = [const { Vec::new() }; 3];
    let begun = Instant::now();
    while begun.elapsed() < total {
        let third = (3.0 * begun.elapsed().as_secs_f64() / total.as_secs_f64()) as usize;
        thirds[third.min(2)].push(value(&metrics(url).await?, "process_resident_memory_bytes ")?);
        sleep(Duration::from_millis(250)).await;
    }
    let [_, second, last] = thirds.map(least_tenth);
    let memory =
        format!("resident memory of {:.0} MB in the second third, {:.0} in the last", second / 1e6, last / 1e6);
    ensure!(last - second < GROWTH, "memory grows: {memory}");
    Ok(memory)
}

fn least_tenth(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 10).copied().unwrap_or(0.0)
}

/// Nobody asks any more: no byte, photo or connection is held, and the server never failed.
pub async fn nothing_is_left(url: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let metrics = metrics(url).await?;
        let held: Vec<&str> = metrics.lines().filter(|line| HELD.iter().any(|name| line.starts_with(name))).collect();
        ensure!(held.len() == 4, "not one level for each queue: {held:?}");
        let connections = value(&metrics, "shortcut_connections ")?;
        if held.iter().all(|line| line.ends_with(" 0")) && connections <= FEW {
            let failed = metrics.lines().find(|line| line.contains(r#"status="500""#));
            ensure!(failed.is_none(), "the server failed: {failed:?}");
            return Ok(());
        }
        ensure!(begun.elapsed() < SOON, "left behind: {held:?}, {connections} connections");
        sleep(Duration::from_millis(250)).await;
    }
}

async fn metrics(url: &str) -> Result<String> {
    Ok(reqwest::get(format!("{url}/metrics")).await?.error_for_status()?.text().await?)
}

fn value(metrics: &str, name: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.with_context(|| format!("no {name} in the metrics"))?.parse().context("a metric is a number")
}
