//! Runs of the CPU engine that a test executes natively and as WebAssembly. Together they use every kernel: Winograd
//! tiles of every size, each stem, 3x3 and 1x1 convolutions with stride 2, groups, long rows of 1x1 convolutions, and a
//! batch that runs in chunks of different sizes.

use model::architecture::{Architecture, Stem};
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;

/// Architecture, stem, and shape of the input, `[batch, height, width]`, of each run.
pub const RUNS: [(&str, Stem, [usize; 3]); 8] = [
    ("resnet18", Stem::Imagenet, [1, 96, 80]),
    ("resnet18", Stem::Imagenet, [2, 53, 71]),
    ("resnet18", Stem::ImagenetStride1, [1, 32, 45]),
    ("resnet18", Stem::Small, [2, 32, 30]),
    ("resnext50_32x4d", Stem::Imagenet, [1, 64, 64]),
    ("resnet50", Stem::Imagenet, [1, 129, 97]),
    ("resnet50", Stem::Small, [1, 32, 32]),
    // In WebAssembly, this batch runs in chunks of ten and nine images.
    ("resnet18", Stem::Imagenet, [19, 68, 68]),
];

/// Computes the logits of a run, `[batch, 33]`.
pub fn logits(run: usize, set: InstructionSet) -> Vec<f32> {
    let (name, stem, [batch, height, width]) = RUNS[run];
    let architecture = Architecture { stem, ..Architecture::new(name, 33).expect("the architecture exists") };
    let options = EngineOptions { instruction_set: Some(set), ..EngineOptions::default() };
    let plan = Plan::from(random::checkpoint(architecture));
    let engine = pollster::block_on(Engine::prepare_with(plan, Device::Cpu, options))
        .expect("the device cpu is always available");
    let pixels = random::pixels(3, batch * height * width * 3);
    let images = ImageBatch::new(pixels, [batch, height, width], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let input = Input::Pixels(images.expect("the pixels match the shape"));
    pollster::block_on(engine.run(&input, &[])).expect("the logits are finite").logits.values
}
