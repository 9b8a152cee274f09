//! Tests the WebGPU engine on the available adapter, and compares it with the CPU engine. `plan.rs` compares both
//! with the Burn network.
#![cfg(feature = "webgpu")]

mod common;

use common::{assert_near, images, normalised, relative_difference, run};
use model::architecture::Architecture;
use model::checkpoint::CheckpointStream;
use model::engine::{
    Device, DeviceError, Engine, EngineError, EngineOptions, Input, Normalised, Output, StreamingEngine,
};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;
use std::sync::LazyLock;

/// Returns an engine that all tests share, so that its kernels are compiled once.
fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
        let plan = Plan::from(random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
        block_on(Engine::prepare(plan, Device::WebGpu(0))).unwrap()
    });
    &ENGINE
}

fn assert_agrees_with_cpu(architecture: Architecture, shapes: &[[usize; 3]]) {
    let plan = Plan::from(random::checkpoint(architecture));
    let [webgpu, cpu] =
        [Device::WebGpu(0), Device::Cpu].map(|device| block_on(Engine::prepare(plan.clone(), device)).unwrap());
    for &shape in shapes {
        let [output, reference] = [&webgpu, &cpu].map(|engine| run(engine, &images(shape)));
        assert_near(&output, &reference, 1e-4, &format!("{architecture}, {shape:?}"));
    }
}

/// Covers widths that are not multiples of a tile, and a shape that occurs again.
#[test]
fn odd_sides_and_class_counts_agree_with_the_cpu_engine() {
    for (classes, shapes) in [
        (1, vec![[1, 32, 32], [2, 71, 57], [1, 32, 32]]),
        (33, vec![[5, 97, 130], [1, 224, 224]]),
        (1001, vec![[1, 257, 255]]),
    ] {
        assert_agrees_with_cpu(Architecture::new("resnet18", classes).unwrap(), &shapes);
    }
}

#[test]
fn normalised_input_is_equivalent_to_pixels() {
    let engine = engine();
    let Input::Pixels(images) = images([2, 40, 50]) else { unreachable!() };
    let normalised = Input::Normalised(normalised(&images));
    let [from_normalised, from_pixels] =
        [normalised, Input::Pixels(images)].map(|input| run(engine, &input).logits.values);
    assert!(relative_difference(&from_normalised, &from_pixels) < 1e-5);
}

/// The file arrives in chunks, and kernels are compiled before the first weight arrives.
#[test]
fn streamed_weights_give_the_same_result() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let expected =
        run(&block_on(Engine::prepare(Plan::new(&checkpoint), Device::WebGpu(0))).unwrap(), &images([1, 64, 64]));
    let bytes = checkpoint.to_bytes();
    let mut stream = CheckpointStream::new(bytes.len() as u64);
    let mut streaming =
        block_on(StreamingEngine::open(checkpoint.architecture(), 0, EngineOptions::default())).unwrap();
    block_on(streaming.precompile([1, 64, 64])).unwrap();
    for chunk in bytes.chunks(1_000_003) {
        stream.push(chunk).unwrap();
        block_on(streaming.upload_available(&stream)).unwrap();
    }
    assert_eq!(run(&streaming.finish().unwrap(), &images([1, 64, 64])), expected);
}

#[test]
fn engine_with_missing_weights_is_an_error() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let bytes = checkpoint.to_bytes();
    let mut stream = CheckpointStream::new(bytes.len() as u64);
    let mut streaming =
        block_on(StreamingEngine::open(checkpoint.architecture(), 0, EngineOptions::default())).unwrap();
    stream.push(&bytes[..bytes.len() - 1]).unwrap();
    block_on(streaming.upload_available(&stream)).unwrap();
    let error = streaming.finish().err().unwrap();
    assert!(error.to_string().contains("weights of 1 layers are missing"), "{error}");
}

#[test]
fn concurrent_callers_may_use_different_shapes() {
    let engine = engine();
    let shapes: Vec<[usize; 3]> = (0..6).map(|index| [1 + index % 3, 32 + index, 64 - index]).collect();
    let expected: Vec<Output> = shapes.iter().map(|&shape| run(engine, &images(shape))).collect();
    std::thread::scope(|scope| {
        for offset in 0..3 {
            let (shapes, expected) = (&shapes, &expected);
            scope.spawn(move || {
                for index in 0..shapes.len() {
                    let index = (index * 5 + offset) % shapes.len();
                    assert_eq!(run(engine, &images(shapes[index])), expected[index], "{:?}", shapes[index]);
                }
            });
        }
    });
}

#[test]
fn rejects_values_that_are_not_finite() {
    let engine = engine();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![0.5; 3 * 40 * 50];
        values[2 * 2000 + 20 * 50 + 25] = bad;
        let input = Input::Normalised(Normalised::new(values, [1, 40, 50]).unwrap());
        let error = block_on(engine.run(&input, &[])).unwrap_err();
        assert!(
            matches!(&error, EngineError::InvalidInput(reason) if reason.contains("is not finite")),
            "{bad}: {error}"
        );
    }
}

#[test]
fn rejects_images_that_need_too_many_workgroups() {
    let engine = engine();
    for shape in [[1, 70_000, 1], [2, 70_000, 1]] {
        let error = block_on(engine.run(&images(shape), &[])).unwrap_err();
        assert!(matches!(error, EngineError::InvalidInput(_)), "{shape:?}: {error}");
    }
}

#[test]
fn rejects_images_that_do_not_fit_into_a_buffer() {
    let engine = engine();
    for shape in [[1, 4096, 4096], [1, 1, 1 << 27]] {
        let pixels = vec![0; shape.iter().product::<usize>() * 3];
        let input = Input::Pixels(ImageBatch::new(pixels, shape, [0.5; 3], [0.25; 3]).unwrap());
        let error = block_on(engine.run(&input, &[])).unwrap_err();
        assert!(matches!(error, EngineError::InvalidInput(_)), "{shape:?}: {error}");
    }
    assert!(block_on(engine.run(&images([1, 32, 32]), &[])).is_ok());
}

#[test]
fn error_for_a_missing_adapter_lists_the_available_ones() {
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let error = block_on(Engine::prepare(plan, Device::WebGpu(99))).err().unwrap();
    assert!(matches!(error, EngineError::Device(DeviceError::NotFound { .. })), "{error}");
    assert!(error.to_string().contains("adapter"), "{error}");
}
