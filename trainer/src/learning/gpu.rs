//! Tests of training on a GPU: a few steps compared with those on the CPU, run by `make check-gpu`.
//!
//! The device is `wgpu`, or the one that the environment variable `SHORTCUT_GPU` names. Burn's kernels are the same for
//! Vulkan and CUDA, and any Vulkan device will do, including Mesa's software implementation.

use super::deferred_metrics::DeferredMetrics;
use super::golden::{batch, forward_backward_part, small_checkpoint};
use super::learner::{Learner, StepOutcome};
use crate::recipe::Recipe;
use crate::replicas::{Collective, HostCollective, replica_devices, run_replicas};
use model::engine::Device;
use std::num::NonZero;
use std::sync::Mutex;

const STEPS: usize = 3;
const BATCH: usize = 8;
const SIDE: usize = 32;

type Weights = std::collections::BTreeMap<String, Vec<f32>>;

/// Returns the losses of the steps, which are the same in each replica, and the final weights of each replica, by rank.
fn run(device: Device, replicas: usize, precision: &str) -> (Vec<f64>, Vec<Weights>) {
    let devices = replica_devices(device, None, NonZero::new(replicas)).unwrap();
    let results = Mutex::new((Vec::new(), vec![Weights::new(); replicas]));
    let collectives = HostCollective::new(replicas).into_iter().map(|one| Box::new(one) as _).collect();
    run_replicas(collectives, |rank, collective: Box<dyn Collective>| {
        let recipe = Recipe::finetune_with(&[&format!("precision={precision}")]);
        let mut learner = Learner::new(&small_checkpoint(), &recipe, None, 0, &devices[rank])?;
        let mut metrics_of_steps = Vec::new();
        for step in 0..STEPS {
            forward_backward_part(&mut learner, &batch(step, BATCH, SIDE), rank, replicas);
            let (StepOutcome::Applied(metrics), _) = learner.update(0.001, 0.0, &*collective)? else {
                panic!("diverged")
            };
            metrics_of_steps.push(metrics);
        }
        // Reading the metrics at the end gives the same values as reading them after each step.
        if rank == 0 {
            let metrics = metrics_of_steps.into_iter().map(DeferredMetrics::read);
            results.lock().unwrap().0 = metrics.map(|metrics| metrics.loss / metrics.weight).collect();
        }
        results.lock().unwrap().1[rank] = learner.state()?.network;
        Ok(())
    })
    .unwrap();
    results.into_inner().unwrap()
}

fn gpu() -> Device {
    std::env::var("SHORTCUT_GPU").map_or(Device::Wgpu(0), |name| name.parse().expect("SHORTCUT_GPU is a device"))
}

fn assert_near(actual: &[f64], expected: &[f64], tolerance: f64) {
    let near = actual.iter().zip(expected).all(|(actual, expected)| (actual / expected - 1.0).abs() < tolerance);
    assert!(near && actual.len() == expected.len(), "{actual:?}, not {expected:?}");
}

#[test]
fn steps_match_the_cpu() {
    let (losses, weights) = run(gpu(), 1, "f32");
    let (expected, expected_weights) = run(Device::Cpu, 1, "f32");
    assert_near(&losses, &expected, 1e-3);
    for (name, expected) in &expected_weights[0] {
        let max_error = weights[0][name].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(max_error < 1e-3, "{name}: maximum error {max_error}");
    }
}

#[test]
fn steps_in_f16_stay_close_to_the_cpu() {
    let (losses, _) = run(gpu(), 1, "f16");
    assert_near(&losses, &run(Device::Cpu, 1, "f32").0, 0.02);
}

#[test]
fn two_replicas_have_identical_weights() {
    let (losses, weights) = run(gpu(), 2, "f32");
    assert!(weights[0] == weights[1]);
    assert_near(&losses, &run(Device::Cpu, 2, "f32").0, 1e-3);
}
