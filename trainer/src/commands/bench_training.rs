//! `trainer bench-training`: duration of a training step and of its parts.

use crate::console;
use crate::learning::{StepTiming, measure_step};
use crate::recipe::Recipe;
use crate::replicas::replica_devices;
use anyhow::Result;
use clap::{Args, value_parser};
use model::architecture::Architecture;
use model::engine::Device;
use std::num::NonZero;
use std::time::Duration;

/// Measure the duration of a training step
///
/// Times the forward pass, the backward pass and the SGD update on random photos, without loading; then each convolution
/// separately.
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
    /// Device to train on: cpu (Burn's flex backend), or, if compiled in, wgpu[:N] or cuda[:N]
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
            ("precision", self.precision.clone()),
            ("batch-size", batch.to_string()),
        ];
        let changes =
            changes.map(|(key, value)| (key.to_owned(), Some(value.parse().unwrap_or(toml::Value::String(value)))));
        let recipe = Recipe::resolve("torchvision-v1", &changes)?;
        let architecture = Architecture::new(&self.architecture, CLASSES)?;
        let device = replica_devices(self.device, None, None)?.remove(0).device;
        let duration = Duration::try_from_secs_f64(self.seconds)?;
        let timing = measure_step(&recipe, &architecture, self.image_size as usize, batch, &device, duration)?;
        if self.json {
            return console::print_result(&serde_json::to_string(&timing)?);
        }
        console::print_result(&table(&timing))?;
        console::print_result(&format!("{:.3} s per step, {:.1} images/s", timing.step, batch as f64 / timing.step))
    }
}

fn table(timing: &StepTiming) -> String {
    let StepTiming { step, convolutions_forward, convolutions_input_gradients, convolutions_weight_gradients, rest } =
        *timing;
    let mut table = console::table();
    table.set_header(["part of a step", "seconds", "share"]);
    for (name, seconds) in [
        ("convolutions, forward", convolutions_forward),
        ("convolutions, gradients of inputs", convolutions_input_gradients),
        ("convolutions, gradients of weights", convolutions_weight_gradients),
        ("norms, activations, pools, classifier, optimiser", rest),
    ] {
        table.add_row([name.to_owned(), format!("{seconds:.3}"), format!("{:.0} %", 100.0 * seconds / step)]);
    }
    console::align_right(&mut table, [1, 2]);
    table.to_string()
}
