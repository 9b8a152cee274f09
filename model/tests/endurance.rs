//! The memory of the engine for WebGPU over many runs. In a program of its own, for no other test to use memory meanwhile.
#![cfg(all(feature = "webgpu", target_os = "linux"))]

mod common;

use common::images;
use model::architecture::Architecture;
use model::engine::{Device, Engine};
use model::plan::Plan;
use model::random;
use pollster::block_on;

/// What a driver, or we, kept of each run would show.
#[test]
fn a_thousand_runs_leave_memory_as_it_was() {
    let plan = Plan::from(random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let engine = block_on(Engine::prepare(plan, Device::WebGpu(0))).unwrap();
    let input = images([1, 32, 32]);
    let runs = |count| (0..count).for_each(|_| drop(block_on(engine.run(&input, &[])).unwrap()));
    runs(100);
    let before = resident();
    runs(900);
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

/// Bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
