//! The same runs of the CPU engine natively and as WebAssembly. They have every kernel among them: Winograd's tiles of every
//! size, each stem, convolutions of 3x3 and 1x1 with stride 2, groups and long rows of 1x1, and a batch in uneven pieces.

use model::architecture::{Architecture, Stem};
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineOptions, Input};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;

/// A network, its stem, and the `[batch, height, width]` of its input.
pub const RUNS: [(&str, Stem, [usize; 3]); 8] = [
    ("resnet18", Stem::Imagenet, [1, 96, 80]),
    ("resnet18", Stem::Imagenet, [2, 53, 71]),
    ("resnet18", Stem::ImagenetStride1, [1, 32, 45]),
    ("resnet18", Stem::Small, [2, 32, 30]),
    ("resnext50_32x4d", Stem::Imagenet, [1, 64, 64]),
    ("resnet50", Stem::Imagenet, [1, 129, 97]),
    ("resnet50", Stem::Small, [1, 32, 32]),
    // In pieces of ten images, and of nine.
    ("resnet18", Stem::Imagenet, [19, 68, 68]),
];

/// The logits of a run: `[batch, 33]`.
pub fn logits(run: usize, set: InstructionSet) -> Vec<f32> {
    let (name, stem, [batch, height, width]) = RUNS[run];
    let architecture = Architecture { stem, ..Architecture::new(name, 33).expect("a known name") };
    let options = EngineOptions { instruction_set: Some(set), ..EngineOptions::default() };
    let plan = Plan::from(random::checkpoint(architecture));
    let engine = pollster::block_on(Engine::prepare_with(plan, Device::Cpu, options)).expect("it is everywhere");
    let pixels = random::pixels(3, batch * height * width * 3);
    let images = ImageBatch::new(pixels, [batch, height, width], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let input = Input::Pixels(images.expect("as many as it takes"));
    pollster::block_on(engine.run(&input, &[])).expect("finite").logits.values
}
