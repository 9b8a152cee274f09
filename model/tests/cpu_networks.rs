//! Tests of the CPU engine on whole networks: every instruction set agrees with `scalar`, and the output for an image
//! depends only on that image. `cpu.rs` tests the kernels, `plan.rs` compares the engine with the Burn network.

mod common;

use common::instruction_sets::{assert_sets_agree, plan, prepare, scalar, vector_sets};
use common::{architectures_with_all_layers, images, normalised, pruned, relative_difference, run};
use model::architecture::Architecture;
use model::engine::cpu::InstructionSet;
use model::engine::{Device, Engine, EngineError, EngineOptions, Input, Normalised, Output, Precision};
use model::preprocess::ImageBatch;
use pollster::block_on;

#[test]
fn instruction_sets_agree_on_every_layer() {
    for architecture in architectures_with_all_layers(7) {
        assert_sets_agree(architecture, &[[2, 64, 64]]);
    }
}

#[test]
fn instruction_sets_agree_on_odd_sides_and_class_counts() {
    for (classes, shape) in
        [(1, [1, 32, 32]), (33, [1, 71, 57]), (1001, [5, 97, 130]), (10, [1, 512, 384]), (10, [2, 257, 257])]
    {
        assert_sets_agree(Architecture::new("resnet18", classes).unwrap(), &[shape]);
    }
}

#[test]
fn instruction_sets_agree_on_pruned_networks() {
    assert_sets_agree(pruned("resnet18", 33), &[[2, 64, 64], [1, 224, 224]]);
    assert_sets_agree(pruned("resnet50", 10), &[[3, 65, 97]]);
}

/// With these sides, layers are split into many tasks, and into several blocks and rounds of tiles.
#[test]
fn instruction_sets_agree_on_large_images_in_bottlenecks() {
    for name in ["resnet50", "resnet50_v1", "resnext50_32x4d", "wide_resnet50_2"] {
        assert_sets_agree(Architecture::new(name, 10).unwrap(), &[[1, 224, 224], [1, 257, 257]]);
    }
}

/// f32 values differ slightly between instruction sets (a fused multiply-add rounds once, separate operations round
/// twice), and are occasionally rounded to different bf16 values, so outputs differ more than in f32. An error in the
/// packing of pairs would make them differ far more.
#[test]
fn bf16_is_near_f32_and_instruction_sets_agree() {
    let unpruned = [("resnet18", [1, 224, 224]), ("resnet50", [2, 65, 97]), ("resnext50_32x4d", [2, 64, 64])];
    let unpruned = unpruned.map(|(name, shape)| (Architecture::new(name, 33).unwrap(), shape));
    for (name, shape) in unpruned.into_iter().chain([(pruned("resnet18", 33), [2, 97, 64])]) {
        let (plan, input) = (plan(name), images(shape));
        let engine = |threads, set, precision| prepare(plan.clone(), threads, set, precision);
        let f32_output = run(&engine(2, scalar(), Precision::F32), &input);
        let reference = run(&engine(2, scalar(), Precision::Bf16), &input);
        let rounding = relative_difference(&reference.logits.values, &f32_output.logits.values);
        assert!((1e-4..3e-2).contains(&rounding), "{name}: bf16 differs from f32 by {rounding}");
        for set in vector_sets().into_iter().filter(|set| set.supports_bf16()) {
            let one_thread = run(&engine(1, set, Precision::Bf16), &input);
            let difference = relative_difference(&one_thread.logits.values, &reference.logits.values);
            assert!(difference < 5e-3, "{name} on {set}: differs from scalar by {difference}");
            let three_threads = run(&engine(3, set, Precision::Bf16), &input);
            assert_eq!(one_thread, three_threads, "{name} on {set}: 3 threads");
        }
    }
}

#[test]
fn rejects_bf16_if_the_instruction_set_lacks_it() {
    let plan = plan(Architecture::new("resnet18", 10).unwrap());
    for set in vector_sets().into_iter().filter(|set| !set.supports_bf16()) {
        let options =
            EngineOptions { instruction_set: Some(set), precision: Precision::Bf16, ..EngineOptions::default() };
        let error = block_on(Engine::prepare_with(plan.clone(), Device::Cpu, options)).err().unwrap();
        assert!(matches!(error, EngineError::UnsupportedPrecision(Precision::Bf16)), "{set}: {error}");
    }
}

#[test]
fn outputs_are_bit_identical_across_runs_and_thread_counts() {
    for name in ["resnet18", "resnet50", "resnext50_32x4d"] {
        let plan = plan(Architecture::new(name, 10).unwrap());
        for set in vector_sets() {
            let engine = |threads| prepare(plan.clone(), threads, set, Precision::F32);
            let (single, others) = (engine(1), [2, 3, 7].map(|threads| (threads, engine(threads))));
            // Each shape needs more memory than the preceding ones.
            for shape in [[1, 96, 96], [3, 64, 80], [1, 224, 224]] {
                let input = images(shape);
                let reference = run(&single, &input);
                assert_eq!(run(&single, &input), reference, "{name} on {set}, {shape:?}, the second run");
                for (threads, engine) in &others {
                    assert_eq!(run(engine, &input), reference, "{name} on {set}, {shape:?}, {threads} threads");
                }
            }
        }
    }
}

/// Runs the images of a batch one by one, and returns their outputs as one batch.
fn one_by_one(engine: &Engine, batch: &ImageBatch) -> Output {
    let [_, height, width] = batch.shape();
    let outputs = batch.pixels().chunks(height * width * 3).map(|pixels| {
        let image = ImageBatch::new(pixels.to_vec(), [1, height, width], batch.mean(), batch.std()).unwrap();
        run(engine, &Input::Pixels(image))
    });
    let stacked = outputs.reduce(|mut stacked, output| {
        stacked.logits.batch += 1;
        stacked.logits.values.extend(output.logits.values);
        for (stacked, activation) in stacked.activations.iter_mut().zip(output.activations) {
            stacked.shape[0] += 1;
            stacked.values.extend(activation.values);
        }
        stacked
    });
    stacked.unwrap()
}

/// Asserts that images have the same outputs in a batch as alone. The chunks of a batch are larger with 5 threads than
/// with 1 or 2, and the last chunk is always smaller. Each engine is new, since the workspace of an earlier run could
/// be large enough for any chunk: in a ResNet, the last chunk may need more memory than the preceding ones.
fn assert_outputs_do_not_depend_on_the_batch(
    name: &str,
    shape: [usize; 3],
    precision: Precision,
    sets: &[InstructionSet],
) {
    let Input::Pixels(batch) = images(shape) else { unreachable!() };
    let plan = plan(Architecture::new(name, 10).unwrap());
    for &set in sets {
        let engine = |threads| prepare(plan.clone(), threads, set, precision);
        let expected = one_by_one(&engine(2), &batch);
        for threads in [1, 2, 5] {
            let output = run(&engine(threads), &Input::Pixels(batch.clone()));
            assert!(output == expected, "{name} in {precision} on {set}, {shape:?}, {threads} threads");
        }
    }
}

#[test]
fn outputs_of_an_image_are_bit_identical_in_any_batch() {
    for shape in [[39, 68, 68], [31, 76, 76]] {
        assert_outputs_do_not_depend_on_the_batch("resnet18", shape, Precision::F32, &InstructionSet::available());
    }
    assert_outputs_do_not_depend_on_the_batch("resnext50_32x4d", [11, 112, 107], Precision::F32, &vector_sets());
    assert_outputs_do_not_depend_on_the_batch("resnet50", [63, 56, 56], Precision::F32, &[InstructionSet::best()]);
    if InstructionSet::best().supports_bf16() {
        assert_outputs_do_not_depend_on_the_batch(
            "resnet50",
            [11, 112, 107],
            Precision::Bf16,
            &[InstructionSet::best()],
        );
    }
}

#[test]
fn runs_of_many_shapes_and_threads_can_be_concurrent() {
    let engine = prepare(plan(Architecture::new("resnet18", 10).unwrap()), 2, InstructionSet::best(), Precision::F32);
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
fn normalised_input_equals_pixels() {
    let engine = prepare(plan(Architecture::new("resnet18", 10).unwrap()), 2, InstructionSet::best(), Precision::F32);
    let Input::Pixels(images) = images([2, 40, 50]) else { unreachable!() };
    let planes = Input::Normalised(normalised(&images));
    assert_eq!(run(&engine, &planes), run(&engine, &Input::Pixels(images)));
}

#[test]
fn values_that_are_not_finite_fail_and_do_not_affect_later_runs() {
    let plan = plan(Architecture::new("resnet18", 10).unwrap());
    let f32 = InstructionSet::available().into_iter().map(|set| (set, Precision::F32));
    let bf16 =
        InstructionSet::available().into_iter().filter(|set| set.supports_bf16()).map(|set| (set, Precision::Bf16));
    for (set, precision) in f32.chain(bf16) {
        // The workspace of the failed run fits the first of these shapes exactly and is larger than the others need.
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
