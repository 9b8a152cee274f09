//! Helper functions of the tests that run the CPU engine on every instruction set.

use super::{assert_near, images, run};
use model::architecture::Architecture;
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineOptions, Output, Precision};
use model::plan::Plan;
use model::random;
use pollster::block_on;
use std::num::NonZero;

pub fn plan(architecture: Architecture) -> Plan {
    Plan::from(random::checkpoint(architecture))
}

pub fn options(threads: usize, set: InstructionSet, precision: Precision) -> EngineOptions {
    EngineOptions { threads: NonZero::new(threads), instruction_set: Some(set), precision, ..Default::default() }
}

pub fn prepare(plan: Plan, threads: usize, set: InstructionSet, precision: Precision) -> Engine {
    block_on(Engine::prepare_with(plan, Device::Cpu, options(threads, set, precision))).unwrap()
}

pub fn scalar() -> InstructionSet {
    "scalar".parse().unwrap()
}

/// Returns every available instruction set except `scalar`.
pub fn vector_sets() -> Vec<InstructionSet> {
    let sets = InstructionSet::available();
    assert_eq!(sets.last().unwrap().to_string(), "scalar");
    sets[..sets.len() - 1].to_vec()
}

/// Asserts that every instruction set computes what `scalar` computes, up to rounding.
pub fn assert_sets_agree(architecture: Architecture, shapes: &[[usize; 3]]) {
    let plan = plan(architecture);
    let engine = |set| prepare(plan.clone(), 2, set, Precision::F32);
    let scalar = engine(scalar());
    let references: Vec<Output> = shapes.iter().map(|&shape| run(&scalar, &images(shape))).collect();
    for set in vector_sets() {
        let engine = engine(set);
        for (shape, reference) in shapes.iter().zip(&references) {
            let output = run(&engine, &images(*shape));
            assert_near(&output, reference, 1e-5, &format!("{architecture} on {set}, {shape:?}"));
        }
    }
}
