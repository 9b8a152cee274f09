//! `trainer bench`: how fast a network answers on a device, how soon it first does, and in how much memory.

use super::arguments::Processor;
use super::memory::{self, Memory};
use super::roofline::{self, Layer};
use crate::console;
use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::Args;
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::engine::{AdapterKind, Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::{ImageBatch, Preprocessing};
use model::random;
use pollster::block_on;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Untimed runs before those that count: this share of the time, and at least one.
const WARM_UP: f64 = 0.2;
/// A median of fewer says nothing.
const FEWEST_RUNS: usize = 3;
/// Runs behind the medians of `--layers`.
const PROFILED_RUNS: usize = 100;

/// Measure how fast a network answers
///
/// Times whole runs from u8 pixels to logits, one after the other, after a warm-up. Beforehand, and once, what passes
/// between having a checkpoint's bytes in memory and its first logits.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Weights to use; by default random ones
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The network, by default resnet18; beside --checkpoint, what its tensors cannot tell (resnet50_v1)
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    #[command(flatten)]
    processor: Processor,
    /// Images in a run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Height and width of the images
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
    /// For how long to measure
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Measure so many runs instead
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    iterations: Option<u32>,
    /// Pixels to run instead of random ones: u8 RGB [batch, size, size, 3], and nothing else in the file
    #[arg(long, value_name = "FILE")]
    pixels: Option<PathBuf>,
    /// Kernels for another kind of GPU than the device webgpu is: software, direct or tiled
    #[arg(long, value_name = "KIND")]
    kernels: Option<AdapterKind>,
    /// Time every layer as well (device cpu, beside the peak of the processor, or webgpu)
    #[arg(long)]
    layers: bool,
    /// As a line of JSON, with the logits if --pixels are given
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer bench
  trainer bench --architecture resnet50 --batch 8 --device flex
  trainer bench --threads 1 --layers
  trainer bench --checkpoint checkpoints/resnet18-imagenette.safetensors --json | jq .median_ms";

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds up to 3600 is wanted".to_owned())
}

/// What `--json` prints. Times are in milliseconds.
#[derive(Serialize)]
struct Report {
    architecture: String,
    device: String,
    /// What the device is, of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    precision: String,
    batch: usize,
    size: usize,
    #[serde(flatten)]
    runs: Runs,
    start_ms: Start,
    /// Absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// Multiply-adds a second at best, of `--layers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
    /// `[batch, classes]`, of `--pixels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<f32>>,
}

/// The runs that count.
#[derive(Serialize)]
struct Runs {
    runs: usize,
    min_ms: f64,
    median_ms: f64,
    /// Nine in ten took no longer.
    p90_ms: f64,
}

/// From a checkpoint's bytes in memory to its first logits.
#[derive(Serialize)]
struct Start {
    parse: f64,
    plan: f64,
    prepare: f64,
    first_run: f64,
    total: f64,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        let report = self.measure()?;
        console::print_result(&if self.json { serde_json::to_string(&report)? } else { report.in_words() })
    }

    fn measure(&self) -> Result<Report> {
        let bytes = self.weights()?;
        let start = Instant::now();
        let checkpoint = Checkpoint::from_bytes(&bytes)?;
        let parsed = Instant::now();
        let metadata = checkpoint.metadata().clone();
        let plan = Plan::from(checkpoint);
        let planned = Instant::now();
        let options = EngineOptions { kernels: self.kernels, ..self.processor.into() };
        let engine = block_on(Engine::prepare_with(plan, self.processor.device, options))?;
        let prepared = Instant::now();

        let input = Input::Pixels(self.images(&metadata.preprocessing)?);
        drop(bytes);
        let before = memory::mark();
        let run = Instant::now();
        let output = block_on(engine.run(&input, &[]))?;
        let first_run = run.elapsed();
        let runs = self.time(&engine, &input)?;
        let memory = before.and_then(memory::since);
        let (peak, layers) = if self.layers { self.profile(&engine, &input)? } else { (None, Vec::new()) };
        Ok(Report {
            architecture: metadata.architecture.name(),
            device: self.processor.device.to_string(),
            adapter: engine.adapter().map(str::to_owned),
            precision: self.processor.precision().to_string(),
            batch: self.batch as usize,
            size: self.size as usize,
            runs,
            start_ms: Start {
                parse: milliseconds(parsed - start),
                plan: milliseconds(planned - parsed),
                prepare: milliseconds(prepared - planned),
                first_run: milliseconds(first_run),
                total: milliseconds(prepared - start + first_run),
            },
            memory,
            peak,
            layers,
            logits: self.pixels.as_ref().map(|_| output.logits.values),
        })
    }

    /// A checkpoint as it comes from a disk or a network.
    fn weights(&self) -> Result<Vec<u8>> {
        let Some(path) = &self.checkpoint else {
            let name = self.architecture.as_deref().unwrap_or("resnet18");
            return Ok(random::checkpoint(Architecture::new(name, 1000)?).to_bytes());
        };
        match &self.architecture {
            None => std::fs::read(path).with_context(|| path.display().to_string()),
            Some(name) => Ok(Checkpoint::from_path(path)?.with_architecture(name)?.to_bytes()),
        }
    }

    /// The batch that every run reads.
    fn images(&self, preprocessing: &Preprocessing) -> Result<ImageBatch> {
        let shape = [self.batch, self.size, self.size].map(|side| side as usize);
        let count = shape.iter().product::<usize>() * 3;
        let pixels = match &self.pixels {
            None => random::pixels(1, count),
            Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
        };
        Ok(ImageBatch::new(pixels, shape, preprocessing.mean, preprocessing.std)?)
    }

    /// The processor's peak, if it is what computes, and a hundred runs layer by layer.
    fn profile(&self, engine: &Engine, input: &Input) -> Result<(Option<f64>, Vec<Layer>)> {
        let runs = (0..PROFILED_RUNS).map(|_| {
            let told = block_on(engine.profile(input))?;
            told.with_context(|| format!("the device {} does not tell times of layers", self.processor.device))
        });
        let runs: Vec<_> = runs.collect::<Result<_>>()?;
        let peak = match self.processor.device {
            Device::Cpu => Some(model::engine::cpu::peak(self.processor.into()).map_err(anyhow::Error::msg)?),
            _ => None,
        };
        Ok((peak, roofline::layers(&runs, peak)))
    }

    fn time(&self, engine: &Engine, input: &Input) -> Result<Runs> {
        let run = || -> Result<f64> {
            let start = Instant::now();
            block_on(engine.run(input, &[]))?;
            Ok(milliseconds(start.elapsed()))
        };
        let until = |end: Instant, fewest: usize, most: usize| -> Result<Vec<f64>> {
            let mut times = Vec::new();
            while times.len() < fewest || (times.len() < most && Instant::now() < end) {
                times.push(run()?);
            }
            Ok(times)
        };
        let now = Instant::now;
        let mut times = match self.iterations {
            Some(count) => {
                run()?;
                until(now(), count as usize, count as usize)?
            }
            None => {
                until(now() + Duration::from_secs_f64(self.seconds * WARM_UP), 1, usize::MAX)?;
                until(now() + Duration::from_secs_f64(self.seconds), FEWEST_RUNS, usize::MAX)?
            }
        };
        times.sort_by(f64::total_cmp);
        Ok(Runs {
            runs: times.len(),
            min_ms: times[0],
            median_ms: quantile(&times, 0.5),
            p90_ms: quantile(&times, 0.9),
        })
    }
}

impl Report {
    fn in_words(&self) -> String {
        let Report { architecture, device, adapter, precision, batch, size, runs, start_ms, memory, .. } = self;
        let adapter = adapter.as_ref().map_or_else(String::new, |adapter| format!(" ({adapter})"));
        let Runs { runs, min_ms, median_ms, p90_ms } = runs;
        let per_second = *batch as f64 / median_ms * 1e3;
        let Start { parse, plan, prepare, first_run, total } = start_ms;
        let mut text = format!(
            "{architecture} on {device}{adapter}, {precision}, batch {batch}, {size}x{size}\n\
             median of {runs} runs  {median_ms:.2} ms (min {min_ms:.2}, p90 {p90_ms:.2}), {per_second:.1} images/s\n\
             bytes to first logits  {total:.0} ms (parse {parse:.0}, plan {plan:.0}, prepare {prepare:.0}, \
             first run {first_run:.0})"
        );
        if let Some(Memory { peak, resident, runs }) = memory {
            let [peak, resident, runs] = [peak, resident, runs].map(|bytes| ByteSize(*bytes as u64).display().si());
            text +=
                &format!("\nresident memory        {peak} at most; {resident} before the first run, which add {runs}");
        }
        if !self.layers.is_empty() {
            text += &format!("\n\n{}", roofline::table(&self.layers, self.peak));
        }
        text
    }
}

/// The smallest of ascending `times` that a share of them does not exceed.
fn quantile(times: &[f64], share: f64) -> f64 {
    times[((times.len() as f64 * share).ceil() as usize).saturating_sub(1)]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let times: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!([0.5, 0.9, 1.0].map(|share| quantile(&times, share)), [5.0, 9.0, 10.0]);
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
        assert_eq!(quantile(&times[..3], 0.5), 2.0);
    }
}
