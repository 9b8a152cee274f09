//! `trainer bench`: inference speed, startup time and memory usage of a network on a device.

use super::arguments::DeviceArgs;
use super::memory::{Baseline, MemoryUsage};
use super::roofline::{self, LayerTiming};
use crate::console;
use crate::weights_file::open_checkpoint;
use anyhow::{Context, Result};
use checkpoints::CheckpointSource;
use clap::Args;
use model::architecture::Architecture;
use model::checkpoint::Checkpoint;
use model::engine::{AdapterKind, Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::{ImageBatch, Preprocessing};
use model::random;
use pollster::block_on;
use serde::Serialize;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Duration of the warm-up as a fraction of the measurement; at least one run.
const WARM_UP: f64 = 0.2;
/// Minimum number of timed runs, for a meaningful median.
const MIN_RUNS: usize = 3;
/// Number of runs for the medians of `--layers`.
const PROFILED_RUNS: usize = 100;

/// Measure inference speed
///
/// Times whole runs from u8 pixels to logits, one after another, after a warm-up. Before that, it times the startup once: from
/// a checkpoint's bytes in memory to the first logits.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Checkpoint to run: a file, or one of the bundled checkpoints resnet18-imagenette and resnet50_v1-imagenet [default:
    /// random weights]
    #[arg(long, value_name = "FILE|NAME")]
    checkpoint: Option<CheckpointSource>,
    /// Architecture [default: resnet18]; with --checkpoint, only if the tensors do not determine it (resnet50_v1)
    #[arg(long, value_name = "NAME")]
    architecture: Option<String>,
    #[command(flatten)]
    device_args: DeviceArgs,
    /// Batch size
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Height and width of the images, in pixels
    #[arg(long, default_value_t = 224, value_parser = clap::value_parser!(u32).range(32..=4096))]
    size: u32,
    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Number of runs to measure, instead of --seconds
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    iterations: Option<u32>,
    /// File of pixels to use instead of random ones: raw u8 RGB [batch, size, size, 3]
    #[arg(long, value_name = "FILE")]
    pixels: Option<PathBuf>,
    /// Use the kernels for another kind of GPU (device webgpu): software, direct or tiled
    #[arg(long, value_name = "KIND")]
    kernels: Option<AdapterKind>,
    /// Also time each layer (devices cpu, compared with the processor's peak, and webgpu)
    #[arg(long)]
    layers: bool,
    /// Print one line of JSON; with --pixels, it includes the logits
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer bench
  trainer bench --architecture resnet50 --batch 8 --device flex
  trainer bench --threads 1 --layers
  trainer bench --checkpoint resnet18-imagenette --json | jq .median_ms";

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected a number of seconds up to 3600".to_owned())
}

/// The output of `--json`. Times are in milliseconds.
#[derive(Serialize)]
struct BenchReport {
    architecture: String,
    device: String,
    /// Name of the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<String>,
    precision: String,
    batch: usize,
    size: usize,
    #[serde(flatten)]
    runs: RunTimes,
    start_ms: StartTimes,
    /// Absent if the system does not report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryUsage>,
    /// Peak of the processor in f32, in multiply-adds per second; with `--layers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<LayerTiming>,
    /// `[batch, classes]`, with `--pixels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<f32>>,
}

/// Times of the runs after the warm-up.
#[derive(Serialize)]
struct RunTimes {
    runs: usize,
    min_ms: f64,
    median_ms: f64,
    /// 90th percentile.
    p90_ms: f64,
}

/// Times of the startup, from a checkpoint's bytes in memory to its first logits.
#[derive(Serialize)]
struct StartTimes {
    parse: f64,
    plan: f64,
    prepare: f64,
    first_run: f64,
    total: f64,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        let report = self.measure()?;
        console::print_result(&if self.json { serde_json::to_string(&report)? } else { report.to_text() })
    }

    fn measure(&self) -> Result<BenchReport> {
        let bytes = self.checkpoint_bytes()?;
        let start = Instant::now();
        let checkpoint = Checkpoint::from_bytes(&bytes)?;
        let parsed = Instant::now();
        let metadata = checkpoint.metadata().clone();
        let plan = Plan::from(checkpoint);
        let planned = Instant::now();
        let options = EngineOptions { adapter_kind: self.kernels, ..self.device_args.into() };
        let engine = block_on(Engine::prepare_with(plan, self.device_args.device, options))?;
        let prepared = Instant::now();

        let input = Input::Pixels(self.images(&metadata.preprocessing)?);
        drop(bytes);
        let baseline = Baseline::record();
        let run = Instant::now();
        let output = block_on(engine.run(&input, &[]))?;
        let first_run = run.elapsed();
        let runs = self.time(&engine, &input)?;
        let memory = baseline.and_then(Baseline::usage);
        let (peak, layers) = if self.layers { self.profile(&engine, &input)? } else { (None, Vec::new()) };
        Ok(BenchReport {
            architecture: metadata.architecture.name(),
            device: self.device_args.device.to_string(),
            adapter: engine.adapter().map(str::to_owned),
            precision: self.device_args.precision.to_string(),
            batch: self.batch as usize,
            size: self.size as usize,
            runs,
            start_ms: StartTimes {
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

    /// Returns the bytes of a checkpoint, as read from a disk or a network.
    fn checkpoint_bytes(&self) -> Result<Cow<'static, [u8]>> {
        let Some(source) = &self.checkpoint else {
            let name = self.architecture.as_deref().unwrap_or("resnet18");
            return Ok(random::checkpoint(Architecture::new(name, 1000)?).to_bytes().into());
        };
        match (&self.architecture, source) {
            (Some(name), _) => Ok(open_checkpoint(source)?.with_architecture(name)?.to_bytes().into()),
            (None, CheckpointSource::File(path)) => {
                let bytes = source.check_exists().and_then(|()| std::fs::read(path));
                Ok(bytes.with_context(|| path.display().to_string())?.into())
            }
            (None, CheckpointSource::Bundled(bundled)) => Ok(bundled.bytes().into()),
        }
    }

    /// Returns the batch that every run reads.
    fn images(&self, preprocessing: &Preprocessing) -> Result<ImageBatch> {
        let shape = [self.batch, self.size, self.size].map(|side| side as usize);
        let count = shape.iter().product::<usize>() * 3;
        let pixels = match &self.pixels {
            None => random::pixels(1, count),
            Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
        };
        Ok(ImageBatch::new(pixels, shape, preprocessing.mean, preprocessing.std)?)
    }

    /// Returns the processor's peak, on device cpu, and the times of the layers.
    fn profile(&self, engine: &Engine, input: &Input) -> Result<(Option<f64>, Vec<LayerTiming>)> {
        let runs = (0..PROFILED_RUNS).map(|_| {
            let profile = block_on(engine.profile(input))?;
            profile.with_context(|| format!("device {} does not support --layers", self.device_args.device))
        });
        let runs: Vec<_> = runs.collect::<Result<_>>()?;
        let peak = match self.device_args.device {
            Device::Cpu => Some(model::engine::cpu::measure_peak(self.device_args.into()).map_err(anyhow::Error::msg)?),
            _ => None,
        };
        Ok((peak, roofline::layers(&runs, peak)))
    }

    fn time(&self, engine: &Engine, input: &Input) -> Result<RunTimes> {
        let run = || -> Result<f64> {
            let start = Instant::now();
            block_on(engine.run(input, &[]))?;
            Ok(milliseconds(start.elapsed()))
        };
        let run_until = |end: Instant, min: usize, max: usize| -> Result<Vec<f64>> {
            let mut times = Vec::new();
            while times.len() < min || (times.len() < max && Instant::now() < end) {
                times.push(run()?);
            }
            Ok(times)
        };
        let now = Instant::now;
        let mut times = match self.iterations {
            Some(count) => {
                run()?;
                run_until(now(), count as usize, count as usize)?
            }
            None => {
                run_until(now() + Duration::from_secs_f64(self.seconds * WARM_UP), 1, usize::MAX)?;
                run_until(now() + Duration::from_secs_f64(self.seconds), MIN_RUNS, usize::MAX)?
            }
        };
        times.sort_by(f64::total_cmp);
        Ok(RunTimes {
            runs: times.len(),
            min_ms: times[0],
            median_ms: quantile(&times, 0.5),
            p90_ms: quantile(&times, 0.9),
        })
    }
}

impl BenchReport {
    fn to_text(&self) -> String {
        let BenchReport { architecture, device, adapter, precision, batch, size, runs, start_ms, memory, .. } = self;
        let adapter = adapter.as_ref().map_or_else(String::new, |adapter| format!(" ({adapter})"));
        let RunTimes { runs, min_ms, median_ms, p90_ms } = runs;
        let per_second = *batch as f64 / median_ms * 1e3;
        let StartTimes { parse, plan, prepare, first_run, total } = start_ms;
        let mut text = format!(
            "{architecture} on {device}{adapter}, {precision}, batch {batch}, {size}x{size}\n\
             median of {runs} runs  {median_ms:.2} ms (min {min_ms:.2}, p90 {p90_ms:.2}), {per_second:.1} images/s\n\
             bytes to first logits  {total:.0} ms (parse {parse:.0}, plan {plan:.0}, prepare {prepare:.0}, \
             first run {first_run:.0})"
        );
        if let Some(MemoryUsage { peak, resident, runs }) = memory {
            let [peak, resident, runs] = [peak, resident, runs].map(|bytes| format_size(*bytes));
            text +=
                &format!("\nresident memory        {peak} at most; {resident} before the first run, which add {runs}");
        }
        if !self.layers.is_empty() {
            text += &format!("\n\n{}", roofline::table(&self.layers, self.peak));
        }
        text
    }
}

/// Returns the nearest-rank quantile of ascending `times`.
fn quantile(times: &[f64], fraction: f64) -> f64 {
    times[((times.len() as f64 * fraction).ceil() as usize).saturating_sub(1)]
}

/// Formats a size in MB, or in kB below 1 MB. The crate `bytesize` would print 1 GB and more in GB with one decimal, which
/// is too coarse to compare runs.
fn format_size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
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
        assert_eq!([0.5, 0.9, 1.0].map(|fraction| quantile(&times, fraction)), [5.0, 9.0, 10.0]);
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
        assert_eq!(quantile(&times[..3], 0.5), 2.0);
    }

    #[test]
    fn sizes_are_in_megabytes_from_one_megabyte_on() {
        let sizes = [0, 4096, 999_999, 1_000_000, 46_813_184, 1_234_567_890].map(format_size);
        assert_eq!(sizes, ["0 kB", "4 kB", "1000 kB", "1.0 MB", "46.8 MB", "1234.6 MB"]);
    }
}
