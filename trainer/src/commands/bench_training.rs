//! `trainer bench-training`: duration of a training step and of its parts.

use super::memory;
use crate::console;
use crate::learning::{OperationTiming, StepBenchmark, StepTiming, precision_warning};
use crate::recipe::Recipe;
use crate::replicas::replica_devices;
use anyhow::Result;
use clap::{Args, value_parser};
use model::engine::Device;
use serde::Serialize;
use std::num::NonZero;
use std::time::Duration;

/// Measure the duration of a training step
///
/// Times the forward pass, the backward pass and the SGD update on random photos, without loading, and shows how long each
/// kind of operation takes. With Burn, each convolution is then measured separately.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchTraining {
    /// Architecture to train
    #[arg(long, value_name = "NAME", default_value = "resnet18")]
    architecture: String,
    /// Width and height of the network's input, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = value_parser!(u32).range(32..=1024))]
    image_size: u32,
    /// Batch size
    #[arg(long, value_name = "N", default_value = "32")]
    batch_size: NonZero<usize>,
    /// Precision of convolutions and matrix products: f32, bf16 or f16
    #[arg(long, value_name = "NAME", default_value = "f32")]
    precision: String,
    /// Stem of the network: imagenet, imagenet-stride1, or small, for images of about 32 pixels
    #[arg(long, value_name = "NAME", default_value = "imagenet")]
    stem: String,
    /// Device to train on: cpu, flex (Burn's CPU backend), or, if compiled in, wgpu[:N] or cuda[:N]
    #[arg(long, default_value_t)]
    device: Device,
    /// Duration of the measurement of steps, in seconds
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Print one line of JSON, with times in seconds
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  trainer bench-training
  trainer bench-training --architecture resnet50 --image-size 224 --batch-size 64 --precision bf16 --device cuda";

/// Number of classes of ImageNet.
const CLASSES: usize = 1000;

impl BenchTraining {
    pub fn run(self) -> Result<()> {
        let batch = self.batch_size.get();
        let changes = [
            ("architecture", self.architecture.clone()),
            ("stem", self.stem.clone()),
            ("precision", self.precision.clone()),
            ("batch-size", batch.to_string()),
        ];
        let changes =
            changes.map(|(key, value)| (key.to_owned(), Some(value.parse().unwrap_or(toml::Value::String(value)))));
        let recipe = Recipe::resolve("torchvision-v1", &changes)?;
        let device = replica_devices(self.device, None, None)?.remove(0);
        if let Some(warning) = precision_warning(&recipe, &device) {
            console::note(warning);
        }
        let benchmark = StepBenchmark {
            recipe: &recipe,
            architecture: recipe.architecture(CLASSES)?,
            side: self.image_size as usize,
            batch,
            device: &device,
            duration: Duration::try_from_secs_f64(self.seconds)?,
        };
        let timing = benchmark.run(|part| console::status(format!("measuring {part}")))?;
        if self.json {
            let result = JsonResult { timing: &timing, peak_memory: memory::peak() };
            return console::print_result(&serde_json::to_string(&result)?);
        }
        console::print_result(&table(&timing))?;
        console::print_result(&format!("{:.3} s per step, {:.1} images/s", timing.step, batch as f64 / timing.step))
    }
}

/// The line that `--json` prints.
#[derive(Serialize)]
struct JsonResult<'a> {
    #[serde(flatten)]
    timing: &'a StepTiming,
    /// Maximum resident memory of the process so far, in bytes, where the operating system reports it.
    peak_memory: Option<usize>,
}

fn table(timing: &StepTiming) -> String {
    let mut table = console::table();
    table.set_header(["part of a step", "seconds", "share"]);
    for OperationTiming { name, seconds } in &timing.operations {
        table.add_row([name.clone(), format!("{seconds:.3}"), format!("{:.0} %", 100.0 * seconds / timing.mean)]);
    }
    console::align_right(&mut table, [1, 2]);
    table.to_string()
}
