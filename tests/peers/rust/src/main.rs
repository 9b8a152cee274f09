//! `peers rten|tract THREADS`: runs an engine as a worker of `make bench`. Reads one JSON request per line from stdin
//! and answers each with one JSON line on stdout, with the protocol of `worker.py`.

mod rten_engine;
mod tract_engine;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Untimed warm-up, as a share of the measured time; at least one run.
const WARM_UP: f64 = 0.2;
/// Minimum number of timed runs.
const MIN_RUNS: usize = 3;

/// Runs a network on its input (f32 `[batch, 3, 224, 224]`, captured at creation) and returns logits `[batch,
/// classes]`.
type Network = Box<dyn Fn() -> Result<Vec<f32>>>;
/// Loads a model for a number of threads.
type Load = fn(&Model, usize) -> Result<Network>;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Loads a model; the answer is `{"logits": [...]}`.
    Load(Model),
    /// Times runs; the answer is `{"times_ms": [...]}`.
    Time { seconds: f64 },
}

#[derive(Deserialize)]
struct Model {
    folder: PathBuf,
    network: String,
    batch: usize,
}

impl Model {
    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}-b{}.onnx", self.network, self.batch))
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, 3, 224, 224]
    }

    /// Reads the images that all engines get, f32 `[batch, 3, 224, 224]`.
    fn input(&self) -> Result<Vec<f32>> {
        let path = self.folder.join("input.f32");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let values = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        Ok(values.take(self.shape().iter().product()).collect())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, threads] = arguments.as_slice() else { bail!("usage: peers rten|tract THREADS") };
    let load: Load = match engine.as_str() {
        "rten" => rten_engine::load,
        "tract" => tract_engine::load,
        other => bail!("unknown engine {other:?}: use rten or tract"),
    };
    let threads = threads.parse().with_context(|| format!("invalid number of threads {threads:?}"))?;

    let mut network = None;
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Request::Load(model) => {
                let loaded = network.insert(load(&model, threads)?);
                json!({ "logits": loaded()? })
            }
            Request::Time { seconds } => time(network.as_ref().context("no model is loaded yet")?, seconds)?,
        };
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn time(network: &Network, seconds: f64) -> Result<Value> {
    let run_for = |seconds: f64, min_runs: usize| -> Result<Vec<f64>> {
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let mut times = Vec::new();
        while times.len() < min_runs || Instant::now() < end {
            let start = Instant::now();
            network()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    };
    run_for(seconds * WARM_UP, 1)?;
    Ok(json!({ "times_ms": run_for(seconds, MIN_RUNS)? }))
}
