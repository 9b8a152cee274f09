//! The engine of our own: every instruction set against the plain one, and answers that depend on nothing but the image.
//! That it agrees with the Burn network is in `plan.rs`.

mod common;

use common::{assert_near, images, normalised, relative_difference, run};
use model::architecture::{Architecture, Stem};
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineError, EngineOptions, Input, Normalised, Output, Precision};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use std::num::NonZero;

fn engine(architecture: Architecture, threads: usize, instruction_set: InstructionSet) -> Engine {
    prepare(plan(architecture), threads, instruction_set, Precision::F32)
}

fn plan(architecture: Architecture) -> Plan {
    Plan::from(random::checkpoint(architecture))
}

fn prepare(plan: Plan, threads: usize, set: InstructionSet, precision: Precision) -> Engine {
    let options =
        EngineOptions { threads: NonZero::new(threads), instruction_set: Some(set), precision, ..Default::default() };
    block_on(Engine::prepare_with(plan, Device::Cpu, options)).unwrap()
}

/// Every set but the plain one.
fn vectorised() -> Vec<InstructionSet> {
    let sets = InstructionSet::available();
    assert_eq!(sets.last().unwrap().to_string(), "scalar");
    sets[..sets.len() - 1].to_vec()
}

fn assert_sets_agree(architecture: Architecture, shapes: &[[usize; 3]]) {
    let plan = plan(architecture);
    let engine = |set| prepare(plan.clone(), 2, set, Precision::F32);
    let plain = engine("scalar".parse().unwrap());
    let references: Vec<Output> = shapes.iter().map(|&shape| run(&plain, &images(shape))).collect();
    for set in vectorised() {
        let engine = engine(set);
        for (shape, reference) in shapes.iter().zip(&references) {
            let output = run(&engine, &images(*shape));
            assert_near(&output, reference, 1e-5, &format!("{architecture} on {set}, {shape:?}"));
        }
    }
}

/// Few and small enough for an emulated processor: ResNet-18 has Winograd's tiles of every size, the first layer of each
/// stem and convolutions of 3x3 and 1x1 with stride 2; ResNet-50 has long rows of 1x1, ResNeXt-50 groups. The last batch goes
/// in pieces of 49 images and of 2.
#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_every_kernel() {
    let architecture = |name| Architecture::new(name, 33).unwrap();
    let stem = |stem| Architecture { stem, ..architecture("resnet18") };
    let small = [[1, 32, 32], [2, 21, 30]];
    assert_sets_agree(architecture("resnet18"), &[&small[..], &[[51, 32, 32]]].concat());
    for architecture in
        [stem(Stem::ImagenetStride1), stem(Stem::Small), architecture("resnet50"), architecture("resnext50_32x4d")]
    {
        assert_sets_agree(architecture, &small);
    }
}

#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_every_architecture() {
    for name in Architecture::names() {
        assert_sets_agree(Architecture::new(&name, 7).unwrap(), &[[2, 64, 64]]);
    }
}

#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_every_stem() {
    for stem in [Stem::ImagenetStride1, Stem::Small] {
        assert_sets_agree(Architecture { stem, ..Architecture::new("resnet18", 10).unwrap() }, &[[3, 32, 33]]);
    }
}

#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_odd_sides_and_class_counts() {
    for (classes, shape) in
        [(1, [1, 32, 32]), (33, [1, 71, 57]), (1001, [5, 97, 130]), (10, [1, 512, 384]), (10, [2, 257, 257])]
    {
        assert_sets_agree(Architecture::new("resnet18", classes).unwrap(), &[shape]);
    }
}

/// At these sides layers go in many tasks, and several blocks and rounds of tiles.
#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_large_images_in_bottlenecks() {
    for name in ["resnet50", "resnet50_v1", "resnext50_32x4d", "wide_resnet50_2"] {
        assert_sets_agree(Architecture::new(name, 10).unwrap(), &[[1, 224, 224], [1, 257, 257]]);
    }
}

/// What differs a little between sets (one rounds sums once, where another rounds twice) now and then rounds to the
/// neighbouring bf16, so they differ by more than in f32; if a pair were something else, it would be by much more.
#[test]
fn bf16_is_near_f32_and_the_same_on_every_instruction_set_that_has_it() {
    for (name, shape) in [("resnet18", [1, 224, 224]), ("resnet50", [2, 65, 97]), ("resnext50_32x4d", [2, 64, 64])] {
        let (plan, input) = (plan(Architecture::new(name, 33).unwrap()), images(shape));
        let engine = |threads, set, precision| prepare(plan.clone(), threads, set, precision);
        let scalar = "scalar".parse().unwrap();
        let exact = run(&engine(2, scalar, Precision::F32), &input);
        let plain = run(&engine(2, scalar, Precision::Bf16), &input);
        let from_exact = relative_difference(&plain.logits.values, &exact.logits.values);
        assert!((1e-4..3e-2).contains(&from_exact), "{name}: bf16 differs from f32 by {from_exact}");
        for set in vectorised().into_iter().filter(|set| set.has_bf16()) {
            let alone = run(&engine(1, set, Precision::Bf16), &input);
            let difference = relative_difference(&alone.logits.values, &plain.logits.values);
            assert!(difference < 5e-3, "{name} on {set}: differs from the plain one by {difference}");
            let threads = run(&engine(3, set, Precision::Bf16), &input);
            assert_eq!(alone, threads, "{name} on {set}: 3 threads");
        }
    }
}

#[test]
fn bf16_is_refused_where_the_processor_has_none() {
    let plan = plan(Architecture::new("resnet18", 10).unwrap());
    for set in vectorised().into_iter().filter(|set| !set.has_bf16()) {
        let options =
            EngineOptions { instruction_set: Some(set), precision: Precision::Bf16, ..EngineOptions::default() };
        let error = block_on(Engine::prepare_with(plan.clone(), Device::Cpu, options)).err().unwrap();
        assert!(matches!(error, EngineError::Precision(Precision::Bf16)), "{set}: {error}");
    }
}

#[test]
fn answers_are_the_same_to_the_bit_from_run_to_run_and_for_any_number_of_threads() {
    for name in ["resnet18", "resnet50", "resnext50_32x4d"] {
        let plan = plan(Architecture::new(name, 10).unwrap());
        for set in vectorised() {
            let engine = |threads| prepare(plan.clone(), threads, set, Precision::F32);
            let (alone, others) = (engine(1), [2, 3, 7].map(|threads| (threads, engine(threads))));
            // Each wants more memory than those before.
            for shape in [[1, 96, 96], [3, 64, 80], [1, 224, 224]] {
                let input = images(shape);
                let reference = run(&alone, &input);
                assert_eq!(run(&alone, &input), reference, "{name} on {set}, {shape:?}, the second run");
                for (threads, engine) in &others {
                    assert_eq!(run(engine, &input), reference, "{name} on {set}, {shape:?}, {threads} threads");
                }
            }
        }
    }
}

/// What an engine answers for a batch whose images come one by one.
fn one_by_one(engine: &Engine, batch: &ImageBatch) -> Output {
    let [_, height, width] = batch.shape();
    let alone = batch.pixels().chunks(height * width * 3).map(|pixels| {
        let alone = ImageBatch::new(pixels.to_vec(), [1, height, width], batch.mean(), batch.std()).unwrap();
        run(engine, &Input::Pixels(alone))
    });
    let together = alone.reduce(|mut together, alone| {
        together.logits.batch += 1;
        together.logits.values.extend(alone.logits.values);
        for (together, alone) in together.kept.iter_mut().zip(alone.kept) {
            together.shape[0] += 1;
            together.values.extend(alone.values);
        }
        together
    });
    together.unwrap()
}

/// For 1 or 2 threads and for 5, a batch goes in pieces of different sizes, and the last piece is always smaller. Each
/// engine is fresh, since another run's memory could be large enough for anything: in a ResNet, the last piece wants
/// more of it than those before.
fn assert_batch_changes_nothing(name: &str, shape: [usize; 3], precision: Precision, sets: &[InstructionSet]) {
    let Input::Pixels(batch) = images(shape) else { unreachable!() };
    let plan = plan(Architecture::new(name, 10).unwrap());
    for &set in sets {
        let engine = |threads| prepare(plan.clone(), threads, set, precision);
        let alone = one_by_one(&engine(2), &batch);
        for threads in [1, 2, 5] {
            let together = run(&engine(threads), &Input::Pixels(batch.clone()));
            assert!(together == alone, "{name} in {precision} on {set}, {shape:?}, {threads} threads");
        }
    }
}

#[test]
fn an_image_gets_the_same_answer_to_the_bit_whatever_batch_it_is_in() {
    for shape in [[39, 68, 68], [31, 76, 76]] {
        assert_batch_changes_nothing("resnet18", shape, Precision::F32, &InstructionSet::available());
    }
    assert_batch_changes_nothing("resnext50_32x4d", [11, 112, 107], Precision::F32, &vectorised());
    assert_batch_changes_nothing("resnet50", [63, 56, 56], Precision::F32, &[InstructionSet::best()]);
    if InstructionSet::best().has_bf16() {
        assert_batch_changes_nothing("resnet50", [11, 112, 107], Precision::Bf16, &[InstructionSet::best()]);
    }
}

#[test]
fn an_engine_serves_many_shapes_and_many_callers_at_once() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), 2, InstructionSet::best());
    let shapes: Vec<[usize; 3]> = (0..20).map(|index| [1 + index % 3, 32 + index, 64 - index]).collect();
    let expected: Vec<Output> = shapes.iter().map(|&shape| run(&engine, &images(shape))).collect();
    std::thread::scope(|scope| {
        for offset in 0..4 {
            let (engine, shapes, expected) = (&engine, &shapes, &expected);
            scope.spawn(move || {
                for index in 0..shapes.len() {
                    let index = (index * 7 + offset * 5) % shapes.len();
                    assert_eq!(run(engine, &images(shapes[index])), expected[index], "{:?}", shapes[index]);
                }
            });
        }
    });
}

#[test]
fn planes_of_floats_are_the_same_input_as_bytes() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), 2, InstructionSet::best());
    let Input::Pixels(images) = images([2, 40, 50]) else { unreachable!() };
    let planes = Input::Normalised(normalised(&images));
    assert_eq!(run(&engine, &planes), run(&engine, &Input::Pixels(images)));
}

#[test]
fn a_value_that_is_no_number_is_a_failure_on_every_instruction_set_and_leaves_no_trace() {
    let plan = plan(Architecture::new("resnet18", 10).unwrap());
    let f32 = InstructionSet::available().into_iter().map(|set| (set, Precision::F32));
    let bf16 = InstructionSet::available().into_iter().filter(|set| set.has_bf16()).map(|set| (set, Precision::Bf16));
    for (set, precision) in f32.chain(bf16) {
        // Of three shapes, the memory of the failed run holds one exactly, and another with room to spare.
        let good = [[2, 40, 50], [1, 40, 50], [1, 33, 37]].map(images);
        let expected = good.each_ref().map(|input| run(&prepare(plan.clone(), 2, set, precision), input));
        let engine = prepare(plan.clone(), 2, set, precision);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut planes = vec![0.5; 2 * 3 * 40 * 50];
            planes[2 * 2000 + 20 * 50 + 25] = bad;
            let input = Input::Normalised(Normalised::new(planes, [2, 40, 50]).unwrap());
            for (good, expected) in good.iter().zip(&expected) {
                let error = block_on(engine.run(&input, &[])).unwrap_err();
                assert!(matches!(error, EngineError::NotFinite { .. }), "{set}, {bad}: {error}");
                assert!(run(&engine, good) == *expected, "{set} in {precision}, after {bad}: {:?}", good.shape());
            }
        }
    }
}
