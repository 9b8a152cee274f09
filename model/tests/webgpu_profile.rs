//! Tests profiles of the WebGPU engine. Whether the adapter has timestamp queries is known only at run time, so this
//! test has a harness that can then report it as ignored.

mod common;

use common::images;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use model::architecture::Architecture;
use model::engine::{Device, Engine};
use model::plan::Plan;
use model::random;
use pollster::block_on;

fn main() {
    let trial = Trial::ignorable_test("profile_lists_every_layer_in_order", profile_lists_every_layer_in_order);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}

fn profile_lists_every_layer_in_order() -> Result<Completion, Failed> {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 1000)?);
    let engine = block_on(Engine::prepare(Plan::from(checkpoint), Device::WebGpu(0)))?;
    let Some(operations) = block_on(engine.profile(&images([2, 224, 224])))? else {
        return Ok(Completion::ignored_with("the adapter has no timestamp queries"));
    };
    let names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(names[..4], ["normalise", "conv1", "maxpool", "layer1.0.conv1"]);
    assert_eq!((names.len(), names.last()), (24, Some(&"fc")));
    assert_eq!(operations.iter().map(|operation| operation.multiply_adds).sum::<u64>(), 2 * 1_814_073_344);
    assert!(operations.iter().all(|operation| operation.moved_bytes > Some(0)));
    let [stem, fc] = [1, 23].map(|index| operations[index].time);
    assert!(stem > fc && !fc.is_zero(), "{stem:?}, {fc:?}");
    Ok(Completion::Completed)
}
