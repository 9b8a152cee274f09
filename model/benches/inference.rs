//! Benchmarks of networks on the CPU engine, for each instruction set. For single layers, see `convolutions` and
//! `trainer bench --layers`; for a comparison with other engines, `make bench`.
//!
//! `cargo bench -p model --bench inference`

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use model::architecture::Architecture;
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineOptions, Input, Precision};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;

fn main() {
    divan::main();
}

/// Returns all available instruction sets except `scalar`.
fn sets() -> Vec<InstructionSet> {
    let sets = InstructionSet::available();
    sets[..sets.len() - 1].to_vec()
}

fn plan(name: &str) -> Plan {
    Plan::new(&random::checkpoint(Architecture::new(name, 1000).expect("the architecture exists")))
}

fn engine(plan: Plan, set: InstructionSet) -> Engine {
    let options = EngineOptions { instruction_set: Some(set), ..EngineOptions::default() };
    block_on(Engine::prepare_with(plan, Device::Cpu, options)).expect("the device cpu is always available")
}

fn images(batch: usize) -> Input {
    let pixels = random::pixels(1, batch * 224 * 224 * 3);
    let images = ImageBatch::new(pixels, [batch, 224, 224], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Input::Pixels(images.expect("the pixels match the shape"))
}

fn network(bencher: Bencher, name: &str, batch: usize, set: InstructionSet) {
    let (engine, input) = (engine(plan(name), set), images(batch));
    let run = || block_on(engine.run(black_box(&input), &[])).expect("the logits are finite");
    run();
    bencher.counter(ItemsCount::new(batch)).bench(run);
}

#[divan::bench(args = sets())]
fn resnet18_batch_1(bencher: Bencher, set: &InstructionSet) {
    network(bencher, "resnet18", 1, *set);
}

#[divan::bench(args = sets())]
fn resnet18_batch_8(bencher: Bencher, set: &InstructionSet) {
    network(bencher, "resnet18", 8, *set);
}

#[divan::bench(args = sets())]
fn resnet50_batch_1(bencher: Bencher, set: &InstructionSet) {
    network(bencher, "resnet50", 1, *set);
}

#[divan::bench(args = sets())]
fn resnet50_batch_8(bencher: Bencher, set: &InstructionSet) {
    network(bencher, "resnet50", 8, *set);
}

/// Runs only on processors with bf16 instructions.
#[divan::bench(args = sets().into_iter().filter(|set| set.supports_bf16()))]
fn resnet50_batch_1_bf16(bencher: Bencher, set: &InstructionSet) {
    let options = EngineOptions { instruction_set: Some(*set), precision: Precision::Bf16, ..EngineOptions::default() };
    let engine = block_on(Engine::prepare_with(plan("resnet50"), Device::Cpu, options))
        .expect("the instruction set supports bf16");
    let input = images(1);
    bencher.bench(|| block_on(engine.run(black_box(&input), &[])).expect("the logits are finite"));
}

/// Measures the time to prepare a plan.
#[divan::bench(args = sets())]
fn packing_resnet18(bencher: Bencher, set: &InstructionSet) {
    let plan = plan("resnet18");
    bencher.with_inputs(|| plan.clone()).bench_values(|plan| engine(plan, *set));
}
