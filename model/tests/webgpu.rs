//! Tests the WebGPU engine on the available adapter, and compares it with the CPU engine. `plan.rs` compares both
//! with the Burn network.
#![cfg(feature = "webgpu")]

mod common;

use common::{assert_near, images, normalised, relative_difference, run};
use model::architecture::{Architecture, Stem};
use model::checkpoint::CheckpointStream;
use model::engine::{
    Device, DeviceError, Engine, EngineError, EngineOptions, Input, Logits, Normalised, Output, StreamingEngine,
};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;

fn engine(architecture: Architecture, device: Device) -> Engine {
    block_on(Engine::prepare(Plan::new(&random::checkpoint(architecture)), device)).unwrap()
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

#[test]
fn every_stem_agrees_with_the_cpu_engine() {
    for stem in [Stem::ImagenetStride1, Stem::Small] {
        assert_agrees_with_cpu(Architecture { stem, ..Architecture::new("resnet18", 10).unwrap() }, &[[3, 32, 33]]);
    }
}

/// Covers widths that are not multiples of a tile, batches of more than one submission, and a shape that occurs again.
#[test]
fn odd_sides_and_class_counts_agree_with_the_cpu_engine() {
    for (classes, shapes) in [
        (1, vec![[1, 32, 32], [2, 71, 57], [1, 32, 32]]),
        (33, vec![[5, 97, 130], [1, 224, 224]]),
        (1001, vec![[1, 257, 255], [70, 112, 112]]),
    ] {
        assert_agrees_with_cpu(Architecture::new("resnet18", classes).unwrap(), &shapes);
    }
}

#[test]
fn normalised_input_is_equivalent_to_pixels() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    let Input::Pixels(images) = images([2, 40, 50]) else { unreachable!() };
    let normalised = Input::Normalised(normalised(&images));
    let [from_normalised, from_pixels] =
        [normalised, Input::Pixels(images)].map(|input| run(&engine, &input).logits.values);
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

/// Lavapipe has timestamp queries; on adapters without them there is no profile.
#[test]
fn profile_lists_every_layer_in_order() {
    let engine = engine(Architecture::new("resnet18", 1000).unwrap(), Device::WebGpu(0));
    let Some(operations) = block_on(engine.profile(&images([2, 224, 224]))).unwrap() else { return };
    let names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(names[..4], ["normalise", "conv1", "maxpool", "layer1.0.conv1"]);
    assert_eq!((names.len(), names.last()), (24, Some(&"fc")));
    assert_eq!(operations.iter().map(|operation| operation.multiply_adds).sum::<u64>(), 2 * 1_814_073_344);
    assert!(operations.iter().all(|operation| operation.moved_bytes > Some(0)));
    let [stem, fc] = [1, 23].map(|index| operations[index].time);
    assert!(stem > fc && !fc.is_zero(), "{stem:?}, {fc:?}");
}

#[test]
fn concurrent_callers_may_use_different_shapes() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    let shapes: Vec<[usize; 3]> = (0..6).map(|index| [1 + index % 3, 32 + index, 64 - index]).collect();
    let expected: Vec<Output> = shapes.iter().map(|&shape| run(&engine, &images(shape))).collect();
    std::thread::scope(|scope| {
        for offset in 0..3 {
            let (engine, shapes, expected) = (&engine, &shapes, &expected);
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
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
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

/// The batch takes at least two submissions on any adapter: the first value of this stem is so large that a buffer has
/// room for only ten images.
#[test]
fn results_of_a_batch_in_several_submissions_equal_those_of_single_images() {
    let architecture = Architecture { stem: Stem::ImagenetStride1, ..Architecture::new("resnet18", 10).unwrap() };
    let engine = engine(architecture, Device::WebGpu(0));
    let Input::Pixels(three) = images([3, 224, 224]) else { unreachable!() };
    let logits = |pixels: Vec<u8>| {
        let shape = [pixels.len() / (224 * 224 * 3), 224, 224];
        let batch = ImageBatch::new(pixels, shape, three.mean(), three.std()).unwrap();
        block_on(engine.run(&Input::Pixels(batch), &[])).unwrap().logits
    };
    let images: Vec<&[u8]> = three.pixels().chunks_exact(224 * 224 * 3).collect();
    let single: Vec<Logits> = images.iter().map(|image| logits(image.to_vec())).collect();
    // No shift maps this order to itself, so results at wrong positions are detected.
    let order = [0, 1, 2, 0, 0, 2, 1, 1, 0, 2, 1];
    let batch = logits(order.map(|image| images[image]).concat());
    for (index, &image) in order.iter().enumerate() {
        let difference = relative_difference(batch.row(index), &single[image].values);
        assert!(difference < 1e-5, "image {index}: {difference}");
    }
}

#[test]
fn rejects_images_that_need_too_many_workgroups() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    for shape in [[1, 70_000, 1], [2, 70_000, 1]] {
        let error = block_on(engine.run(&images(shape), &[])).unwrap_err();
        assert!(matches!(error, EngineError::InvalidInput(_)), "{shape:?}: {error}");
    }
}

#[test]
fn rejects_images_that_do_not_fit_into_a_buffer() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
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
