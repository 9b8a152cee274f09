//! Times of the checkpoints on the devices of this machine, from u8 pixels to logits.
//!
//! The checkpoints take turns, so that a slow drift of the machine's speed affects all of them equally.

use super::candidate::Candidate;
use super::paired_predictions::EngineSettings;
use crate::console;
use crate::evaluation::quantile;
use anyhow::Result;
use model::engine::{Device, Engine, EngineOptions, Input, Precision};
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Batch sizes.
const BATCHES: [usize; 2] = [1, 8];
/// Number of timed runs in a turn. They follow an untimed run, because the caches contain another checkpoint's weights.
const RUNS_PER_TURN: usize = 3;
/// Minimum number of turns of each checkpoint, for a meaningful median.
const MIN_TURNS: usize = 3;
/// Duration of the measurement of a device and batch size, per checkpoint.
const DURATION: Duration = Duration::from_secs(1);

/// Times on a device with a batch size.
#[derive(Serialize)]
pub struct DeviceTiming {
    pub device: String,
    /// Name of the GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    pub precision: String,
    pub batch: usize,
    /// Number of timed runs of each checkpoint.
    pub runs: usize,
    pub checkpoints: Vec<CheckpointTime>,
}

/// Time of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CheckpointTime {
    /// Median time per photo, in milliseconds.
    pub ms_per_photo: f64,
    /// Median, over the turns, of the time divided by that of the first checkpoint.
    pub ratio_to_first: f64,
}

/// Measures the times on each device that is compiled in and present. A note says which devices cannot be used.
///
/// # Errors
/// Returns an error if a device fails during the measurement.
pub(super) fn measure(candidates: &[Candidate], settings: EngineSettings) -> Result<Vec<DeviceTiming>> {
    let mut timings = Vec::new();
    for device in devices(settings.device) {
        // Devices other than the chosen one may not support its precision.
        let precision = if device == settings.device { settings.options.precision } else { Precision::F32 };
        let options = EngineOptions { precision, ..settings.options };
        let prepare = |candidate: &Candidate| block_on(Engine::prepare_from(&candidate.checkpoint, device, options));
        let engines = match candidates.iter().map(prepare).collect::<Result<Vec<_>, _>>() {
            Err(error) if device != settings.device => {
                console::note(format_args!("no times on {device}: {error}"));
                continue;
            }
            engines => engines?,
        };
        for batch in BATCHES {
            console::status(format_args!("measuring times on {device}, batch {batch}"));
            let inputs = candidates.iter().map(|candidate| input(candidate, batch)).collect::<Result<Vec<_>>>()?;
            let turns = run_in_turns(&engines, &inputs)?;
            timings.push(DeviceTiming {
                device: device.to_string(),
                adapter: engines[0].adapter().map(str::to_owned),
                precision: precision.to_string(),
                batch,
                runs: turns[0].len() * RUNS_PER_TURN,
                checkpoints: turns.iter().map(|own| CheckpointTime::new(own, &turns[0], batch)).collect(),
            });
        }
    }
    Ok(timings)
}

/// Returns the devices that are compiled in, without Burn's CPU backend unless it is the chosen one.
fn devices(chosen: Device) -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    devices.extend(cfg!(feature = "webgpu").then_some(Device::WebGpu(0)));
    devices.extend(cfg!(feature = "wgpu").then_some(Device::Wgpu(0)));
    devices.extend(cfg!(feature = "cuda").then_some(Device::Cuda(0)));
    if !devices.contains(&chosen) {
        devices.push(chosen);
    }
    devices
}

/// Returns a batch of random pixels of the network's input size.
fn input(candidate: &Candidate, batch: usize) -> Result<Input> {
    let preprocessing = &candidate.checkpoint.metadata().preprocessing;
    let side = preprocessing.crop as usize;
    let pixels = random::pixels(1, batch * side * side * 3);
    let images = ImageBatch::new(pixels, [batch, side, side], preprocessing.mean, preprocessing.std)?;
    Ok(Input::Pixels(images))
}

/// Times of the runs of a turn, in milliseconds.
type Turn = [f64; RUNS_PER_TURN];

/// Runs the engines in turns, each with its input. Returns `[engine][turn]`.
fn run_in_turns(engines: &[Engine], inputs: &[Input]) -> Result<Vec<Vec<Turn>>> {
    let count = engines.len();
    let run = |index: usize| -> Result<f64> {
        let start = Instant::now();
        block_on(engines[index].run(&inputs[index], &[]))?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // Warm-up: the first run allocates memory and, on a GPU, compiles kernels.
    (0..count).try_for_each(|index| run(index).map(drop))?;
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); count];
    let end = Instant::now() + DURATION * count as u32;
    while turns[0].len() < MIN_TURNS || Instant::now() < end {
        let round = turns[0].len();
        for position in 0..count {
            let index = (round + position) % count;
            run(index)?;
            let mut times = Turn::default();
            for time in &mut times {
                *time = run(index)?;
            }
            turns[index].push(times);
        }
    }
    Ok(turns)
}

impl CheckpointTime {
    fn new(own: &[Turn], first: &[Turn], batch: usize) -> Self {
        let ratios = own.iter().zip(first).map(|(own, first)| median(own) / median(first));
        CheckpointTime {
            ms_per_photo: median(own.as_flattened()) / batch as f64,
            ratio_to_first: median(&ratios.collect::<Vec<_>>()),
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machine takes twice as long in the second round, and half as long in the third.
    #[test]
    fn ratios_are_not_affected_by_drift() {
        let first = [[8.0, 9.0, 8.5], [16.0, 18.0, 17.0], [4.0, 4.5, 4.25]];
        let own = first.map(|turn| turn.map(|time| 1.5 * time));
        let time = CheckpointTime::new(&own, &first, 8);
        assert_eq!(time, CheckpointTime { ms_per_photo: 1.5 * 8.5 / 8.0, ratio_to_first: 1.5 });
        assert_eq!(CheckpointTime::new(&first, &first, 1).ratio_to_first, 1.0);
    }

    #[test]
    fn chosen_device_is_measured_once() {
        assert_eq!(devices(Device::Cpu).iter().filter(|&&device| device == Device::Cpu).count(), 1);
        assert_eq!(devices(Device::Flex).last(), Some(&Device::Flex));
    }
}
