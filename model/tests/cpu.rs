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
    engine_of(architecture, threads, instruction_set, Precision::F32)
}

fn engine_of(architecture: Architecture, threads: usize, set: InstructionSet, precision: Precision) -> Engine {
    let options =
        EngineOptions { threads: NonZero::new(threads), instruction_set: Some(set), precision, ..Default::default() };
    block_on(Engine::prepare_with(Plan::new(&random::checkpoint(architecture)), Device::Cpu, options)).unwrap()
}

/// Every set but the plain one.
fn vectorised() -> Vec<InstructionSet> {
    let sets = InstructionSet::available();
    assert_eq!(sets.last().unwrap().to_string(), "scalar");
    sets[..sets.len() - 1].to_vec()
}

fn assert_sets_agree(architecture: Architecture, shapes: &[[usize; 3]]) {
    let plain = engine(architecture, 2, "scalar".parse().unwrap());
    let references: Vec<Output> = shapes.iter().map(|&shape| run(&plain, &images(shape))).collect();
    for set in vectorised() {
        let engine = engine(architecture, 2, set);
        for (shape, reference) in shapes.iter().zip(&references) {
            let output = run(&engine, &images(*shape));
            assert_near(&output, reference, 1e-5, &format!("{architecture} on {set}, {shape:?}"));
        }
    }
}

/// Few and small enough for an emulated processor: ResNet-18 has Winograd's tiles of every size, the first layer of each
/// stem and convolutions of 3x3 and 1x1 with stride 2; ResNeXt-50 has groups and long rows of 1x1.
#[test]
fn every_instruction_set_agrees_with_the_plain_one_on_every_kernel() {
    let (resnet, resnext) = ["resnet18", "resnext50_32x4d"].map(|name| Architecture::new(name, 33).unwrap()).into();
    let stems = [Stem::Imagenet, Stem::ImagenetStride1, Stem::Small];
    for architecture in stems.map(|stem| Architecture { stem, ..resnet }).into_iter().chain([resnext]) {
        assert_sets_agree(architecture, &[[1, 32, 32], [2, 21, 30]]);
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

/// What differs a little between sets (one rounds sums once, where another rounds twice) now and then rounds to the
/// neighbouring bf16, so they differ by more than in f32; if a pair were something else, it would be by much more.
#[test]
fn bf16_is_near_f32_and_the_same_on_every_instruction_set_that_has_it() {
    for (name, shape) in [("resnet18", [1, 224, 224]), ("resnet50", [2, 65, 97]), ("resnext50_32x4d", [2, 64, 64])] {
        let (architecture, input) = (Architecture::new(name, 33).unwrap(), images(shape));
        let scalar = "scalar".parse().unwrap();
        let exact = run(&engine(architecture, 2, scalar), &input);
        let plain = run(&engine_of(architecture, 2, scalar, Precision::Bf16), &input);
        let from_exact = relative_difference(&plain.logits.values, &exact.logits.values);
        assert!((1e-4..3e-2).contains(&from_exact), "{name}: bf16 differs from f32 by {from_exact}");
        for set in vectorised().into_iter().filter(|set| set.has_bf16()) {
            let alone = run(&engine_of(architecture, 1, set, Precision::Bf16), &input);
            let difference = relative_difference(&alone.logits.values, &plain.logits.values);
            assert!(difference < 5e-3, "{name} on {set}: differs from the plain one by {difference}");
            let threads = run(&engine_of(architecture, 3, set, Precision::Bf16), &input);
            assert_eq!(alone, threads, "{name} on {set}: 3 threads");
        }
    }
}

#[test]
fn bf16_is_refused_where_the_processor_has_none() {
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
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
        let architecture = Architecture::new(name, 10).unwrap();
        for shape in [[1, 96, 96], [3, 64, 80], [1, 224, 224]] {
            let input = images(shape);
            for set in vectorised() {
                let alone = engine(architecture, 1, set);
                let reference = run(&alone, &input);
                assert_eq!(run(&alone, &input), reference, "{name} on {set}, {shape:?}, the second run");
                for threads in [2, 3, 7] {
                    let output = run(&engine(architecture, threads, set), &input);
                    assert_eq!(output, reference, "{name} on {set}, {shape:?}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn an_image_gets_the_same_answer_to_the_bit_whatever_batch_it_is_in() {
    let bf16 = InstructionSet::best().has_bf16().then_some(("resnet50", Precision::Bf16));
    let f32 = ["resnet18", "resnet50", "resnext50_32x4d"].map(|name| (name, Precision::F32));
    for (name, precision) in f32.into_iter().chain(bf16) {
        let engine = engine_of(Architecture::new(name, 10).unwrap(), 2, InstructionSet::best(), precision);
        let Input::Pixels(batch) = images([7, 64, 64]) else { unreachable!() };
        let together = run(&engine, &Input::Pixels(batch.clone())).logits;
        for (index, pixels) in batch.pixels().chunks(64 * 64 * 3).enumerate() {
            let alone = ImageBatch::new(pixels.to_vec(), [1, 64, 64], batch.mean(), batch.std()).unwrap();
            let alone = run(&engine, &Input::Pixels(alone)).logits;
            assert_eq!(alone.values, together.row(index), "{name}: image {index}");
        }
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
fn a_value_that_is_no_number_is_a_failure_on_every_instruction_set() {
    let architecture = Architecture::new("resnet18", 10).unwrap();
    for set in InstructionSet::available() {
        let engine = engine(architecture, 2, set);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut planes = vec![0.5; 3 * 40 * 50];
            planes[2 * 2000 + 20 * 50 + 25] = bad;
            let input = Input::Normalised(Normalised::new(planes, [1, 40, 50]).unwrap());
            let error = block_on(engine.run(&input, &[])).unwrap_err();
            assert!(matches!(error, EngineError::Failed { .. }), "{set}, {bad}: {error}");
        }
    }
}
