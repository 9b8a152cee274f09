//! What the server says of itself: its memory meanwhile, and what is left in it behind everything.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// By how much resident memory may grow behind the first third, in which pools and arenas find their sizes; as much in two minutes
/// as in half an hour, in which a leak would show.
const GROWTH: f64 = 48e6;

/// What must be zero when nobody asks; the last one is there for each of two models.
const HELD: [&str; 3] = ["shortcut_in_flight_bytes ", "shortcut_decode_queue_depth ", "shortcut_queue_depth{"];
/// Connections that may be open then, the one that asks among them.
const FEW: f64 = 2.0;
/// How long that may take: connections on which nothing is asked are closed behind ten seconds.
const SOON: Duration = Duration::from_secs(30);

/// Resident memory: how much it is, and by how much it grows.
pub async fn watch_memory(url: &str, total: Duration) -> Result<String> {
    let mut samples = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < total {
        let bytes = value(&metrics(url).await?, "process_resident_memory_bytes ")?;
        if begun.elapsed() > total / 3 {
            samples.push((begun.elapsed().as_secs_f64(), bytes));
        }
        sleep(Duration::from_millis(250)).await;
    }
    let peak = samples.iter().fold(0.0, |peak: f64, (_, bytes)| peak.max(*bytes));
    let growth = slope(&samples) * total.as_secs_f64() * 2.0 / 3.0;
    let memory = format!("resident memory of {:.0} MB at most, which grew by {:.1}", peak / 1e6, growth / 1e6);
    ensure!(growth < GROWTH, "memory grows: {memory}");
    Ok(memory)
}

/// Of the line that is nearest to these points: single peaks, of which large photos make many, hardly move it.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    along / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
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
