//! Compares all kernels that can be selected on any kind of adapter, on the available one, with Burn and with the CPU
//! engine.

use super::super::{AdapterKind, Input};
use super::kernel_config::{KernelConfig, Specialisation};
use super::kernel_selection::{kernel_candidates, product_kernel_candidates, select_kernel};
use super::storage::ElementType;
use super::winograd_tiling::WinogradTiling;
use super::*;
use crate::architecture::{Architecture, Convolution, Stem};
use crate::engine::{Engine, Normalised};
use crate::plan::{FoldedConvolution, Operation, Tap, ValueId};
use crate::preprocess::ImageBatch;
use crate::random::{self, Uniform};
use pollster::block_on;

const KINDS: [AdapterKind; 3] = [AdapterKind::Software, AdapterKind::Direct, AdapterKind::Tiled];

const DEVICE: Device = Device::WebGpu(0);

fn images(shape: [usize; 3]) -> Input {
    let pixels = random::pixels(3, shape.iter().product::<usize>() * 3);
    Input::Pixels(ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap())
}

/// Prepares an engine that does not use Winograd's algorithm.
fn prepare(plan: Plan, storage: StorageFormat) -> Result<WebGpuEngine, EngineError> {
    prepare_with_winograd(plan, storage, |_| None)
}

fn prepare_with_winograd(
    plan: Plan,
    storage: StorageFormat,
    variant: impl Fn(&Convolution) -> Option<WinogradVariant>,
) -> Result<WebGpuEngine, EngineError> {
    block_on(async {
        let gpu = Gpu::open(DEVICE, 0).await?;
        let select = |layer: &Convolution, _: &TensorLayout| variant(layer);
        let engine = WebGpuEngine::with_winograd(gpu, &plan, storage, DEFAULT_NOMINAL_SIDE, select).await?;
        engine.upload_all_weights(plan).await?;
        Ok(engine)
    })
}

/// Returns `max|difference| / max|reference|`.
fn relative_difference(values: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(values.len(), reference.len());
    let largest = reference.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    assert!(largest > 1e-3 && largest.is_finite(), "the reference is degenerate: {largest}");
    values.iter().zip(reference).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// Creates a convolution with a bias. Its weights are scaled so that outputs are of the same magnitude as inputs.
fn folded(layer: Convolution, input: ValueId, output: ValueId, residual: Option<ValueId>) -> Operation {
    let count: usize = layer.weight_shape().iter().product();
    let mut random = Uniform::new(output as u64);
    let scale = (6.0 / (count / layer.out_channels) as f32).sqrt();
    let weight = random.by_ref().take(count).map(|x| x * scale).collect();
    let bias = random.take(layer.out_channels).collect();
    Operation::Convolution(FoldedConvolution { input, output, residual, relu: residual.is_some(), layer, weight, bias })
}

/// Numbers of input channels and of output channels, kernel, stride, and number of groups.
type LayerParameters = [usize; 5];

fn convolution([in_channels, out_channels, kernel, stride, groups]: LayerParameters) -> Convolution {
    let [name, norm] = ["layer", ""].map(str::to_owned);
    Convolution { name, norm, in_channels, out_channels, kernel, stride, padding: kernel / 2, groups }
}

/// Creates a plan whose last step is the layer. A layer with 3 input channels is the only step; any other is preceded
/// by two layers, which compute its input and its residual.
fn plan(layer: LayerParameters) -> Plan {
    let [in_channels, out_channels, _, stride, _] = layer;
    if in_channels == 3 {
        return Plan::from_operations(vec![folded(convolution(layer), Plan::INPUT, 1, None)]);
    }
    Plan::from_operations(vec![
        folded(convolution([3, in_channels, 3, 1, 1]), Plan::INPUT, 1, None),
        folded(convolution([in_channels, out_channels, 1, stride, 1]), 1, 2, None),
        folded(convolution(layer), 1, 3, Some(2)),
    ])
}

fn layout([batch, height, width]: [usize; 3], channels: usize) -> TensorLayout {
    TensorLayout { channels, batch, height, width, border: 0, element: ElementType::F32 }
}

/// Runs a plan whose last step is computed with this configuration, and returns its output.
fn run(engine: &WebGpuEngine, input: &Input, config: KernelConfig, specialisation: Specialisation) -> Vec<f32> {
    let last = engine.steps.last().unwrap();
    let select = |layer: &Convolution, output: &TensorLayout, _| match &last.kind {
        steps::StepKind::Convolution { layer: last_layer, winograd, .. }
            if layer == winograd.as_deref().map_or(last_layer, |winograd| &winograd.product_layer) =>
        {
            config
        }
        _ => select_kernel(AdapterKind::Software, layer, output),
    };
    let plan = DispatchPlan::with_configs(&engine.steps, engine.storage, specialisation, input.shape(), select);
    assert!(plan.fits(engine.gpu.max_buffer_size));
    let workspace = Workspace::new(&engine.gpu, &engine.pipelines, plan, engine.step_resources());
    // The run uses this workspace, because it is idle and has the right shape.
    *engine.idle_workspaces.lock() = vec![block_on(workspace).unwrap()];
    block_on(engine.run(input, &[])).unwrap().logits.values
}

/// Checks the kernels of every kind of adapter, without splits and with the maximum number of splits.
fn assert_all_kernels_agree(layer: LayerParameters, shape: [usize; 3], storage: StorageFormat) {
    let input = images(shape);
    let engine = prepare(plan(layer), storage).unwrap();
    let dispatch_plan = DispatchPlan::new(&engine.steps, AdapterKind::Software, engine.storage, shape);
    let (output, last) = (*dispatch_plan.values.last().unwrap(), convolution(layer));
    let reference = reference(layer, &input);
    let tolerance = match storage {
        StorageFormat::F32 => 2e-5,
        StorageFormat::PackedWeights | StorageFormat::F16 => 2e-3,
    };
    let mut checked = Vec::new();
    for kind in KINDS {
        let (candidates, specialisation) = (kernel_candidates(kind, &last, &output), kind.specialisation());
        let max_splits = candidates.iter().map(|config| config.splits).max().unwrap();
        for config in candidates.into_iter().filter(|config| config.splits == 1 || config.splits == max_splits) {
            if checked.contains(&(config, specialisation)) {
                continue;
            }
            checked.push((config, specialisation));
            let difference = relative_difference(&run(&engine, &input, config, specialisation), &reference);
            let case = format!("{layer:?}, {shape:?}, {config:?}, {specialisation:?}, {storage:?}");
            assert!(difference < tolerance, "{case}: {difference}");
        }
    }
}

/// Returns the output of Burn, which computes with any number of channels and without Winograd's algorithm.
fn reference(layer: LayerParameters, input: &Input) -> Vec<f32> {
    let engine = block_on(Engine::prepare(plan(layer), Device::Flex)).unwrap();
    block_on(engine.run(input, &[])).unwrap().logits.values
}

/// Checks tiles of every size, for images whose sides are multiples of the tile's and others, with the kernels of every
/// kind of adapter for the products.
#[test]
fn every_winograd_variant_computes_3x3s() {
    let layers = [([32, 68, 3, 1, 1], [2, 9, 11]), ([16, 64, 3, 1, 1], [1, 8, 12]), ([13, 27, 3, 1, 1], [1, 7, 5])];
    for (layer, shape) in layers {
        let (input, last) = (images(shape), convolution(layer));
        let reference = reference(layer, &input);
        for m in [2, 3, 4] {
            let variant = WinogradVariant { m, stride: 1 };
            let engine =
                prepare_with_winograd(plan(layer), StorageFormat::F32, |other| (*other == last).then_some(variant));
            let engine = engine.unwrap();
            let tiling = WinogradTiling::new(variant, &layout(shape, last.out_channels));
            let products = tiling.transformed_layout(last.out_channels);
            let product_layer = convolution([layer[0], layer[1], 1, 1, 1]);
            for kind in [AdapterKind::Software, AdapterKind::Direct] {
                for config in product_kernel_candidates(kind, &product_layer, &products) {
                    let output = run(&engine, &input, config, kind.specialisation());
                    let difference = relative_difference(&output, &reference);
                    let case = format!("{layer:?}, {shape:?}, {variant:?}, {config:?}, {kind:?}");
                    assert!(difference < 2e-5, "{case}: {difference}");
                }
            }
        }
    }
}

#[test]
fn every_kernel_computes_3x3s() {
    assert_all_kernels_agree([32, 68, 3, 1, 1], [2, 9, 11], StorageFormat::F32);
}

#[test]
fn every_kernel_computes_3x3s_with_stride() {
    assert_all_kernels_agree([16, 64, 3, 2, 1], [3, 17, 16], StorageFormat::F32);
}

#[test]
fn every_kernel_computes_1x1s() {
    assert_all_kernels_agree([128, 96, 1, 1, 1], [1, 7, 8], StorageFormat::F32);
    assert_all_kernels_agree([32, 30, 1, 2, 1], [1, 19, 17], StorageFormat::F32);
}

#[test]
fn every_kernel_computes_the_stems() {
    assert_all_kernels_agree([3, 64, 7, 2, 1], [1, 37, 40], StorageFormat::F32);
    assert_all_kernels_agree([3, 20, 3, 1, 1], [2, 9, 10], StorageFormat::F32);
}

/// Pruned networks have such numbers of channels.
#[test]
fn every_kernel_computes_odd_numbers_of_channels() {
    assert_all_kernels_agree([13, 27, 3, 1, 1], [1, 9, 11], StorageFormat::F32);
}

#[test]
fn every_kernel_computes_groups() {
    assert_all_kernels_agree([64, 64, 3, 1, 8], [2, 9, 11], StorageFormat::F32);
}

#[test]
fn every_kernel_computes_a_single_pixel() {
    assert_all_kernels_agree([128, 33, 1, 1, 1], [1, 1, 1], StorageFormat::F32);
}

/// Returns the formats with f16 that the adapter supports.
fn f16_formats() -> Vec<StorageFormat> {
    let gpu = block_on(Gpu::open(DEVICE, 0)).unwrap();
    let f16 = gpu.supports_f16().then_some(StorageFormat::F16);
    [StorageFormat::PackedWeights].into_iter().chain(f16).collect()
}

#[test]
fn every_kernel_computes_with_f16_storage() {
    for storage in f16_formats() {
        assert_all_kernels_agree([32, 68, 3, 1, 1], [1, 9, 11], storage);
        assert_all_kernels_agree([3, 20, 3, 1, 1], [2, 9, 10], storage);
    }
}

#[test]
fn result_does_not_depend_on_submission_boundaries() {
    let layer = [32, 68, 3, 1, 1];
    let engine = prepare(plan(layer), StorageFormat::F32).unwrap();
    let input = images([2, 9, 11]);
    let whole = block_on(engine.run(&input, &[])).unwrap();
    engine.idle_workspaces.lock()[0].dispatches.iter_mut().for_each(|dispatch| dispatch.starts_submission = true);
    assert_eq!(block_on(engine.run(&input, &[])).unwrap(), whole);
}

/// The buffers have room for four images, so a batch of eleven runs in three parts.
#[test]
fn results_of_a_batch_in_several_parts_equal_those_of_single_images() {
    let (side, room) = (40, 4);
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let mut engine = prepare(plan, StorageFormat::F32).unwrap();
    let layouts = DispatchPlan::new(&engine.steps, engine.gpu.kind, engine.storage, [1, side, side]).values;
    engine.gpu.max_buffer_size = room as u64 * layouts.iter().map(TensorLayout::bytes).max().unwrap();
    assert_eq!(engine.max_batch_size([side, side]).unwrap(), room);

    let Input::Pixels(three) = images([3, side, side]) else { unreachable!() };
    let images: Vec<&[u8]> = three.pixels().chunks_exact(side * side * 3).collect();
    let logits = |order: &[usize]| {
        let pixels: Vec<&[u8]> = order.iter().map(|&image| images[image]).collect();
        let batch = ImageBatch::new(pixels.concat(), [order.len(), side, side], three.mean(), three.std()).unwrap();
        block_on(engine.run(&Input::Pixels(batch), &[])).unwrap().logits
    };
    let single = [0, 1, 2].map(|image| logits(&[image]).values);
    // No shift maps this order to itself, so results at wrong positions are detected.
    let order = [0, 1, 2, 0, 0, 2, 1, 1, 0, 2, 1];
    let batch = logits(&order);
    for (index, &image) in order.iter().enumerate() {
        let difference = relative_difference(batch.row(index), &single[image]);
        assert!(difference < 1e-5, "image {index}: {difference}");
    }
}

/// Uses the kernels that are selected for each kind, including Winograd's algorithm. Most images are small, because
/// layers with small outputs are split.
#[test]
fn kernels_of_every_adapter_kind_compute_networks() {
    let networks = [
        ("resnet18", Stem::Imagenet, [1, 96, 75]),
        ("resnet18", Stem::Imagenet, [1, 32, 32]),
        ("resnet18", Stem::Small, [2, 32, 32]),
        ("resnet50", Stem::Imagenet, [2, 64, 64]),
        ("resnext50_32x4d", Stem::Imagenet, [1, 65, 64]),
    ];
    for (network, stem, shape) in networks {
        let architecture = Architecture { stem, ..Architecture::new(network, 10).unwrap() };
        let plan = Plan::new(&random::checkpoint(architecture));
        let reference = block_on(Engine::prepare(plan.clone(), Device::Cpu)).unwrap();
        let reference = block_on(reference.run(&images(shape), &Tap::STEM_AND_STAGES)).unwrap();
        for kind in KINDS {
            let options = EngineOptions { adapter_kind: Some(kind), ..EngineOptions::default() };
            let engine = block_on(WebGpuEngine::prepare(plan.clone(), DEVICE, 0, options)).unwrap();
            let output = block_on(engine.run(&images(shape), &Tap::STEM_AND_STAGES)).unwrap();
            let difference = relative_difference(&output.logits.values, &reference.logits.values);
            assert!(difference < 1e-4, "{network}, {stem:?}, {shape:?}, {kind:?}: {difference}");
            for (ours, reference) in output.activations.iter().zip(&reference.activations) {
                let difference = relative_difference(&ours.values, &reference.values);
                assert!(difference < 1e-4, "{network}, {stem:?}, {shape:?}, {kind:?}, {:?}: {difference}", ours.tap);
            }
        }
    }
}

/// The device is lost during a run: this run and all later ones report the loss, and a new engine can be prepared.
#[test]
fn runs_on_a_lost_device_fail_and_a_new_engine_works() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let input = images([1, 64, 64]);
    let engine = prepare(Plan::new(&checkpoint), StorageFormat::F32).unwrap();
    let expected = block_on(engine.run(&input, &[])).unwrap();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| (0..1000).find_map(|_| block_on(engine.run(&input, &[])).err()));
        std::thread::sleep(std::time::Duration::from_millis(30));
        engine.simulate_loss();
        let error = runs.join().unwrap().expect("a run should have failed");
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    });
    let new_shape = images([2, 40, 50]);
    for input in [&input, &new_shape] {
        let error = block_on(engine.run(input, &Tap::STEM_AND_STAGES)).unwrap_err();
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    }
    let new_engine = prepare(Plan::new(&checkpoint), StorageFormat::F32).unwrap();
    assert_eq!(block_on(new_engine.run(&input, &[])).unwrap(), expected);
}

#[test]
fn f16_storage_changes_logits_slightly_and_predictions_not_at_all() {
    for network in ["resnet18", "resnet50"] {
        let plan = Plan::new(&random::checkpoint(Architecture::new(network, 10).unwrap()));
        let input = images([3, 96, 64]);
        let reference = block_on(Engine::prepare(plan.clone(), Device::Cpu)).unwrap();
        let reference = block_on(reference.run(&input, &Tap::STEM_AND_STAGES)).unwrap();
        for (storage, kind) in f16_formats().into_iter().flat_map(|storage| KINDS.map(|kind| (storage, kind))) {
            let mut engine = prepare(plan.clone(), storage).unwrap();
            engine.gpu.kind = kind;
            let output = block_on(engine.run(&input, &Tap::STEM_AND_STAGES)).unwrap();
            let difference = relative_difference(&output.logits.values, &reference.logits.values);
            assert!(difference < 1e-2, "{network}, {storage:?}, {kind:?}: {difference}");
            for image in 0..3 {
                let [ours, reference] = [&output, &reference].map(|output| {
                    let row = output.logits.row(image);
                    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
                });
                assert_eq!(ours, reference, "{network}, {storage:?}, {kind:?}, image {image}");
            }
            for (ours, reference) in output.activations.iter().zip(&reference.activations) {
                let difference = relative_difference(&ours.values, &reference.values);
                assert!(difference < 1e-2, "{network}, {storage:?}, {kind:?}, {:?}: {difference}", ours.tap);
            }
        }
    }
}

/// Covers inputs that overflow, and sums of the stem that overflow although no input does. Without the check, the
/// overflowing sums would not be visible in the logits, after ReLUs and a mean.
#[test]
fn values_that_overflow_f16_are_errors() {
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let input = |magnitude: f32| {
        let values = Uniform::new(1).take(3 * 64 * 64).map(|x| x * magnitude).collect();
        Input::Normalised(Normalised::new(values, [1, 64, 64]).unwrap())
    };
    for (storage, kind) in f16_formats().into_iter().flat_map(|storage| KINDS.map(|kind| (storage, kind))) {
        let mut engine = prepare(plan.clone(), storage).unwrap();
        engine.gpu.kind = kind;
        let overflow = "a value overflows f16";
        for (magnitude, expected) in [(1.0, None), (60_000.0, Some(overflow)), (70_000.0, Some("invalid input: value"))]
        {
            let output = block_on(engine.run(&input(magnitude), &[]));
            match expected.filter(|_| storage == StorageFormat::F16) {
                Some(reason) => assert!(output.unwrap_err().to_string().contains(reason), "{kind:?}, {magnitude}"),
                None => assert!(output.is_ok(), "{storage:?}, {kind:?}, {magnitude}"),
            }
        }
    }
}

#[test]
fn weights_that_overflow_f16_are_errors() {
    let mut layer = plan([3, 20, 3, 1, 1]);
    let Operation::Convolution(convolution) = &mut layer.operations[0] else { unreachable!() };
    convolution.weight[7] = 1e5;
    assert!(prepare(layer.clone(), StorageFormat::F32).is_ok());
    let error = prepare(layer, StorageFormat::PackedWeights).err().unwrap();
    assert!(error.to_string().contains("weight 100000 of layer layer overflows f16"), "{error}");
}
