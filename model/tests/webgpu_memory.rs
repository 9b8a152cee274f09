//! Tests that the WebGPU engine does not leak memory. This is a separate test binary, so that no other test allocates
//! at the same time.
#![cfg(all(feature = "webgpu", target_os = "linux"))]

mod common;

use common::images;
use model::architecture::Architecture;
use model::engine::{Device, Engine};
use model::plan::Plan;
use model::random;
use pollster::block_on;

/// Detects leaks in this crate and in the driver.
#[test]
fn memory_does_not_grow_over_a_thousand_runs() {
    let plan = Plan::from(random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let engine = block_on(Engine::prepare(plan, Device::WebGpu(0))).unwrap();
    let input = images([1, 32, 32]);
    let runs = |count| (0..count).for_each(|_| drop(block_on(engine.run(&input, &[])).unwrap()));
    runs(100);
    let before = resident_bytes();
    runs(900);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes");
}

/// Returns the resident memory of this process, in bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
