//! The engine for WebGPU on whatever adapter there is, against the CPU engine. That both agree with the Burn network is in
//! `plan.rs`.
#![cfg(feature = "webgpu")]

mod common;

use common::{assert_near, images, normalised, relative_difference, run};
use model::architecture::{Architecture, Stem};
use model::checkpoint::Incoming;
use model::engine::{
    AwaitingEngine, Device, DeviceError, Engine, EngineError, EngineOptions, Input, Logits, Normalised, Output,
};
use model::plan::Plan;
use model::preprocess::ImageBatch;
use model::random;
use pollster::block_on;

fn engine(architecture: Architecture, device: Device) -> Engine {
    block_on(Engine::prepare(Plan::new(&random::checkpoint(architecture)), device)).unwrap()
}

fn assert_agreement(architecture: Architecture, shapes: &[[usize; 3]]) {
    let plan = Plan::from(random::checkpoint(architecture));
    let [ours, reference] =
        [Device::WebGpu(0), Device::Cpu].map(|device| block_on(Engine::prepare(plan.clone(), device)).unwrap());
    for &shape in shapes {
        let [output, reference] = [&ours, &reference].map(|engine| run(engine, &images(shape)));
        assert_near(&output, &reference, 1e-4, &format!("{architecture}, {shape:?}"));
    }
}

#[test]
fn every_stem_agrees_with_the_cpu_engine() {
    for stem in [Stem::ImagenetStride1, Stem::Small] {
        assert_agreement(Architecture { stem, ..Architecture::new("resnet18", 10).unwrap() }, &[[3, 32, 33]]);
    }
}

/// Ragged rows, batches of more than one submission, a shape that comes back.
#[test]
fn odd_sides_and_class_counts_agree_with_the_cpu_engine() {
    for (classes, shapes) in [
        (1, vec![[1, 32, 32], [2, 71, 57], [1, 32, 32]]),
        (33, vec![[5, 97, 130], [1, 224, 224]]),
        (1001, vec![[1, 257, 255], [70, 112, 112]]),
    ] {
        assert_agreement(Architecture::new("resnet18", classes).unwrap(), &shapes);
    }
}

#[test]
fn planes_of_floats_are_the_same_input_as_bytes() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    let Input::Pixels(images) = images([2, 40, 50]) else { unreachable!() };
    let planes = Input::Normalised(normalised(&images));
    let [planes, bytes] = [planes, Input::Pixels(images)].map(|input| run(&engine, &input).logits.values);
    assert!(relative_difference(&planes, &bytes) < 1e-5);
}

/// Pieces of the file, kernels compiled before the first weight.
#[test]
fn an_engine_that_is_made_while_its_weights_come_is_the_same() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let expected =
        run(&block_on(Engine::prepare(Plan::new(&checkpoint), Device::WebGpu(0))).unwrap(), &images([1, 64, 64]));
    let bytes = checkpoint.to_bytes();
    let mut incoming = Incoming::new(bytes.len() as u64);
    let mut awaiting = block_on(AwaitingEngine::open(checkpoint.architecture(), 0, EngineOptions::default())).unwrap();
    block_on(awaiting.expect([1, 64, 64])).unwrap();
    for chunk in bytes.chunks(1_000_003) {
        incoming.push(chunk).unwrap();
        block_on(awaiting.take(&incoming)).unwrap();
    }
    assert_eq!(run(&awaiting.finish().unwrap(), &images([1, 64, 64])), expected);
}

#[test]
fn an_engine_without_all_weights_is_none() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let bytes = checkpoint.to_bytes();
    let mut incoming = Incoming::new(bytes.len() as u64);
    let mut awaiting = block_on(AwaitingEngine::open(checkpoint.architecture(), 0, EngineOptions::default())).unwrap();
    incoming.push(&bytes[..bytes.len() - 1]).unwrap();
    block_on(awaiting.take(&incoming)).unwrap();
    let error = awaiting.finish().err().unwrap();
    assert!(error.to_string().contains("1 layers have no weights"), "{error}");
}

/// Lavapipe has a clock; an adapter without one tells nothing.
#[test]
fn a_profile_is_of_every_layer_in_order() {
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
fn an_engine_serves_many_shapes_and_many_callers_at_once() {
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
fn a_value_that_is_no_number_is_refused() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut planes = vec![0.5; 3 * 40 * 50];
        planes[2 * 2000 + 20 * 50 + 25] = bad;
        let input = Input::Normalised(Normalised::new(planes, [1, 40, 50]).unwrap());
        let error = block_on(engine.run(&input, &[])).unwrap_err();
        assert!(matches!(&error, EngineError::Input(reason) if reason.contains("holds")), "{bad}: {error}");
    }
}

/// Two submissions at least, whatever the adapter: the first values of this stem are so large that a buffer holds ten images
/// of them.
#[test]
fn images_of_a_batch_that_is_cut_are_as_they_are_alone() {
    let architecture = Architecture { stem: Stem::ImagenetStride1, ..Architecture::new("resnet18", 10).unwrap() };
    let engine = engine(architecture, Device::WebGpu(0));
    // Of three images, in an order that no shift leaves as it was.
    let Input::Pixels(three) = images([3, 224, 224]) else { unreachable!() };
    let of_pixels = |pixels: Vec<u8>| {
        let shape = [pixels.len() / (224 * 224 * 3), 224, 224];
        let batch = ImageBatch::new(pixels, shape, three.mean(), three.std()).unwrap();
        block_on(engine.run(&Input::Pixels(batch), &[])).unwrap().logits
    };
    let images: Vec<&[u8]> = three.pixels().chunks_exact(224 * 224 * 3).collect();
    let alone: Vec<Logits> = images.iter().map(|image| of_pixels(image.to_vec())).collect();
    let order = [0, 1, 2, 0, 0, 2, 1, 1, 0, 2, 1];
    let together = of_pixels(order.map(|image| images[image]).concat());
    for (index, &image) in order.iter().enumerate() {
        let difference = relative_difference(together.row(index), &alone[image].values);
        assert!(difference < 1e-5, "image {index}: {difference}");
    }
}

#[test]
fn images_for_which_a_dispatch_had_too_many_workgroups_are_refused() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    for shape in [[1, 70_000, 1], [2, 70_000, 1]] {
        let error = block_on(engine.run(&images(shape), &[])).unwrap_err();
        assert!(matches!(error, EngineError::Input(_)), "{shape:?}: {error}");
    }
}

#[test]
fn images_that_no_buffer_holds_are_refused() {
    let engine = engine(Architecture::new("resnet18", 10).unwrap(), Device::WebGpu(0));
    for shape in [[1, 4096, 4096], [1, 1, 1 << 27]] {
        let pixels = vec![0; shape.iter().product::<usize>() * 3];
        let input = Input::Pixels(ImageBatch::new(pixels, shape, [0.5; 3], [0.25; 3]).unwrap());
        let error = block_on(engine.run(&input, &[])).unwrap_err();
        assert!(matches!(error, EngineError::Input(_)), "{shape:?}: {error}");
    }
    assert!(block_on(engine.run(&images([1, 32, 32]), &[])).is_ok());
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let error = block_on(Engine::prepare(plan, Device::WebGpu(99))).err().unwrap();
    assert!(matches!(error, EngineError::Device(DeviceError::Absent { .. })), "{error}");
    assert!(error.to_string().contains("adapter"), "{error}");
}
