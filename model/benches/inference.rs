//! Networks on the CPU engine, by instruction set. Single layers: `convolutions`, and `trainer bench --layers`. Beside other
//! engines: `make bench`.
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

fn sets() -> Vec<InstructionSet> {
    let sets = InstructionSet::available();
    sets[..sets.len() - 1].to_vec()
}

fn plan(name: &str) -> Plan {
    Plan::new(&random::checkpoint(Architecture::new(name, 1000).expect("a known name")))
}

fn engine(plan: Plan, set: InstructionSet) -> Engine {
    let options = EngineOptions { instruction_set: Some(set), ..EngineOptions::default() };
    block_on(Engine::prepare_with(plan, Device::Cpu, options)).expect("the device cpu is everywhere")
}

fn images(batch: usize) -> Input {
    let pixels = random::pixels(1, batch * 224 * 224 * 3);
    let images = ImageBatch::new(pixels, [batch, 224, 224], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    Input::Pixels(images.expect("224x224"))
}

fn network(bencher: Bencher, name: &str, batch: usize, set: InstructionSet) {
    let (engine, input) = (engine(plan(name), set), images(batch));
    let run = || block_on(engine.run(black_box(&input), &[])).expect("finite");
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

/// In bf16, where the processor has it.
#[divan::bench(args = sets().into_iter().filter(|set| set.has_bf16()))]
fn resnet50_batch_1_bf16(bencher: Bencher, set: &InstructionSet) {
    let options = EngineOptions { instruction_set: Some(*set), precision: Precision::Bf16, ..EngineOptions::default() };
    let engine = block_on(Engine::prepare_with(plan("resnet50"), Device::Cpu, options)).expect("the set has it");
    let input = images(1);
    bencher.bench(|| block_on(engine.run(black_box(&input), &[])).expect("finite"));
}

/// What stands between a plan and the first run.
#[divan::bench(args = sets())]
fn packing_resnet18(bencher: Bencher, set: &InstructionSet) {
    let plan = plan("resnet18");
    bencher.with_inputs(|| plan.clone()).bench_values(|plan| engine(plan, *set));
}
