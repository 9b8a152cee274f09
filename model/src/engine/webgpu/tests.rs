//! The kernels on whatever adapter there is, against the CPU engine: those that its kind would never get above all.

use super::choice::{AdapterKind, Choice, direct, tiled};
use super::shaders::{Code, Tiling};
use super::storage::Element;
use super::*;
use crate::architecture::{Architecture, Convolution, Stem};
use crate::engine::{Engine, Normalised};
use crate::plan::{FoldedConvolution, Operation};
use crate::random::{self, Uniform};
use pollster::block_on;

const CODES: [Code; 2] = [Code::Specialised, Code::Shared];

const KINDS: [AdapterKind; 3] = [AdapterKind::Software, AdapterKind::Direct, AdapterKind::Tiled];

const NAME: Device = Device::WebGpu(0);

fn images(shape: [usize; 3]) -> Input {
    let pixels = random::pixels(3, shape.iter().product::<usize>() * 3);
    Input::Pixels(ImageBatch::new(pixels, shape, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).unwrap())
}

/// Without Winograd's filtering.
fn prepare(plan: Plan, storage: Storage) -> Result<WebGpuEngine, EngineError> {
    prepare_with(plan, storage, |_| None)
}

fn prepare_with(
    plan: Plan,
    storage: Storage,
    scheme: impl Fn(&Convolution) -> Option<Scheme>,
) -> Result<WebGpuEngine, EngineError> {
    block_on(async {
        let gpu = Gpu::open(NAME, 0).await?;
        let engine = WebGpuEngine::on(gpu, &plan, storage, USUAL_SIDE, |layer, _| scheme(layer)).await?;
        engine.fill_all(plan).await?;
        Ok(engine)
    })
}

/// `max|difference| / max|reference|`
fn relative_difference(values: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(values.len(), reference.len());
    let largest = reference.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    assert!(largest > 1e-3 && largest.is_finite(), "the reference is degenerate: {largest}");
    values.iter().zip(reference).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

/// A convolution with a bias, its weights scaled so that values stay as large as they are.
fn folded(layer: Convolution, input: Value, output: Value, residual: Option<Value>) -> Operation {
    let count: usize = layer.weight_shape().iter().product();
    let mut random = Uniform::new(output as u64);
    let scale = (6.0 / (count / layer.out_channels) as f32).sqrt();
    let weight = random.by_ref().take(count).map(|x| x * scale).collect();
    let bias = random.take(layer.out_channels).collect();
    Operation::Convolution(FoldedConvolution { input, output, residual, relu: residual.is_some(), layer, weight, bias })
}

/// Channels in and out, kernel, stride, groups.
type Layer = [usize; 5];

fn convolution([in_channels, out_channels, kernel, stride, groups]: Layer) -> Convolution {
    let [name, norm] = ["layer", ""].map(str::to_owned);
    Convolution { name, norm, in_channels, out_channels, kernel, stride, padding: kernel / 2, groups }
}

/// The layer behind one that makes its input, beside one that makes its residual; a stem is alone.
fn plan(layer: Layer) -> Plan {
    let [in_channels, out_channels, _, stride, _] = layer;
    if in_channels == 3 {
        return Plan::of(vec![folded(convolution(layer), Plan::INPUT, 1, None)]);
    }
    Plan::of(vec![
        folded(convolution([3, in_channels, 3, 1, 1]), Plan::INPUT, 1, None),
        folded(convolution([in_channels, out_channels, 1, stride, 1]), 1, 2, None),
        folded(convolution(layer), 1, 3, Some(2)),
    ])
}

fn planes([batch, height, width]: [usize; 3], channels: usize) -> Planes {
    Planes { channels, batch, height, width, border: 0, element: Element::F32 }
}

/// What a plan yields if its last step is computed as chosen.
fn run(engine: &WebGpuEngine, input: &Input, choice: Choice, code: Code) -> Vec<f32> {
    let last = engine.steps.last().unwrap();
    let choose = |layer: &Convolution, to: &_, _| match &last.work {
        steps::Work::Convolution { layer: of_last, winograd, .. }
            if layer == winograd.as_deref().map_or(of_last, |winograd| &winograd.products) =>
        {
            choice
        }
        _ => Choice::new(AdapterKind::Software, layer, to),
    };
    let listing = Listing::choosing(&engine.steps, engine.storage, code, input.shape(), choose);
    assert!(listing.fits(engine.gpu.largest_buffer));
    let layout = Layout::new(&engine.gpu, listing, &engine.steps, &engine.weights, &engine.last_reads);
    let layout = block_on(layout).unwrap();
    // What a run finds, it uses.
    *lock(&engine.layouts) = vec![layout];
    block_on(engine.run(input, &[])).unwrap().logits.values
}

/// Every tile of every family, in every workgroup, whole and in as many pieces as the layer can be cut into.
fn assert_all_agree(layer: Layer, shape: [usize; 3], storage: Storage) {
    let input = images(shape);
    let engine = prepare(plan(layer), storage).unwrap();
    let listing = Listing::new(&engine.steps, AdapterKind::Software, engine.storage, shape);
    let (to, last) = (*listing.values.last().unwrap(), convolution(layer));
    let choices = [direct(&last, &to, [4, 16]), direct(&last, &to, [16, 64]), tiled(&last)].concat();
    let most = choices.iter().map(|choice| choice.pieces).max().unwrap();
    let reference = reference(&engine, layer, &input);
    let tolerance = match storage {
        Storage::F32 => 2e-5,
        Storage::PackedWeights | Storage::F16 => 2e-3,
    };
    for choice in choices.into_iter().filter(|choice| choice.pieces == 1 || choice.pieces == most) {
        for code in CODES {
            let difference = relative_difference(&run(&engine, &input, choice, code), &reference);
            assert!(difference < tolerance, "{layer:?}, {shape:?}, {choice:?}, {code:?}, {storage:?}: {difference}");
        }
    }
}

fn reference(engine: &WebGpuEngine, layer: Layer, input: &Input) -> Vec<f32> {
    let last = convolution(layer);
    if last.in_channels == 3 || last.in_channels.is_multiple_of(16) {
        let reference = block_on(Engine::prepare(plan(layer), Device::Cpu)).unwrap();
        return block_on(reference.run(input, &[])).unwrap().logits.values;
    }
    // Not for the CPU engine; all that is known is that ways agree.
    let listing = Listing::new(&engine.steps, AdapterKind::Software, engine.storage, input.shape());
    let choice = Choice::new(AdapterKind::Software, &last, listing.values.last().unwrap());
    run(engine, input, choice, Code::Specialised)
}

/// By tiles of every size, whether they end where images do or not, multiplied in every tile of the products.
#[test]
fn every_scheme_of_winograds_computes_3x3s() {
    let layers = [([32, 68, 3, 1, 1], [2, 9, 11]), ([16, 64, 3, 1, 1], [1, 8, 12]), ([13, 27, 3, 1, 1], [1, 7, 5])];
    for (layer, shape) in layers {
        let (input, last) = (images(shape), convolution(layer));
        let reference = reference(&prepare(plan(layer), Storage::F32).unwrap(), layer, &input);
        for tile in [2, 3, 4] {
            let scheme = Scheme { tile, stride: 1 };
            let engine = prepare_with(plan(layer), Storage::F32, |of| (*of == last).then_some(scheme)).unwrap();
            let products = Tiling::new(scheme, &planes(shape, last.out_channels)).planes(last.out_channels);
            let choices = direct(&convolution([layer[0], layer[1], 1, 1, 1]), &products, [4, 16]);
            for choice in choices.into_iter().filter(|choice| choice.pieces == 1) {
                for code in CODES {
                    let difference = relative_difference(&run(&engine, &input, choice, code), &reference);
                    assert!(difference < 2e-5, "{layer:?}, {shape:?}, {scheme:?}, {choice:?}, {code:?}: {difference}");
                }
            }
        }
    }
}

#[test]
fn every_tile_computes_3x3s() {
    assert_all_agree([32, 68, 3, 1, 1], [2, 9, 11], Storage::F32);
}

#[test]
fn every_tile_computes_3x3s_with_stride() {
    assert_all_agree([16, 64, 3, 2, 1], [3, 17, 16], Storage::F32);
}

#[test]
fn every_tile_computes_1x1s() {
    assert_all_agree([128, 96, 1, 1, 1], [1, 7, 8], Storage::F32);
    assert_all_agree([32, 30, 1, 2, 1], [1, 19, 17], Storage::F32);
}

#[test]
fn every_tile_computes_the_stems() {
    assert_all_agree([3, 64, 7, 2, 1], [1, 37, 40], Storage::F32);
    assert_all_agree([3, 20, 3, 1, 1], [2, 9, 10], Storage::F32);
}

/// Channels of pruned networks.
#[test]
fn every_tile_computes_odd_numbers_of_channels() {
    assert_all_agree([13, 27, 3, 1, 1], [1, 9, 11], Storage::F32);
}

#[test]
fn every_tile_computes_groups() {
    assert_all_agree([64, 64, 3, 1, 8], [2, 9, 11], Storage::F32);
}

#[test]
fn every_tile_computes_a_single_pixel() {
    assert_all_agree([128, 33, 1, 1, 1], [1, 1, 1], Storage::F32);
}

/// Those that the adapter can, beside f32.
fn short_storages() -> Vec<Storage> {
    let gpu = block_on(Gpu::open(NAME, 0)).unwrap();
    let f16 = gpu.has_f16().then_some(Storage::F16);
    [Storage::PackedWeights].into_iter().chain(f16).collect()
}

#[test]
fn every_tile_computes_from_every_storage() {
    for storage in short_storages() {
        assert_all_agree([32, 68, 3, 1, 1], [1, 9, 11], storage);
        assert_all_agree([3, 20, 3, 1, 1], [2, 9, 10], storage);
    }
}

#[test]
fn submissions_may_be_cut_before_every_dispatch() {
    let layer = [32, 68, 3, 1, 1];
    let engine = prepare(plan(layer), Storage::F32).unwrap();
    let input = images([2, 9, 11]);
    let whole = block_on(engine.run(&input, &[])).unwrap();
    lock(&engine.layouts)[0].dispatches.iter_mut().for_each(|dispatch| dispatch.starts_submission = true);
    assert_eq!(block_on(engine.run(&input, &[])).unwrap(), whole);
}

/// As they are chosen for each kind, with Winograd's filtering where it is; small images above all, for which input channels
/// are cut into pieces.
#[test]
fn every_kind_of_adapters_kernels_compute_networks() {
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
        let reference = block_on(reference.run(&images(shape), &Tap::ALL)).unwrap();
        for kind in KINDS {
            let options = EngineOptions { kernels: Some(kind), ..EngineOptions::default() };
            let engine = block_on(WebGpuEngine::prepare(plan.clone(), NAME, 0, options)).unwrap();
            let output = block_on(engine.run(&images(shape), &Tap::ALL)).unwrap();
            let difference = relative_difference(&output.logits.values, &reference.logits.values);
            assert!(difference < 1e-4, "{network}, {stem:?}, {shape:?}, {kind:?}: {difference}");
            for (ours, reference) in output.kept.iter().zip(&reference.kept) {
                let difference = relative_difference(&ours.values, &reference.values);
                assert!(difference < 1e-4, "{network}, {stem:?}, {shape:?}, {kind:?}, {:?}: {difference}", ours.tap);
            }
        }
    }
}

/// In the middle of its use: whoever asks then or later hears of the loss, and another engine can be made.
#[test]
fn a_device_that_is_lost_says_so_for_ever() {
    let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
    let input = images([1, 64, 64]);
    let engine = prepare(Plan::new(&checkpoint), Storage::F32).unwrap();
    let expected = block_on(engine.run(&input, &[])).unwrap();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| (0..1000).find_map(|_| block_on(engine.run(&input, &[])).err()));
        std::thread::sleep(std::time::Duration::from_millis(30));
        engine.lose();
        let error = runs.join().unwrap().expect("a run fails");
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    });
    let other = images([2, 40, 50]);
    for input in [&input, &other] {
        let error = block_on(engine.run(input, &Tap::ALL)).unwrap_err();
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    }
    let another = prepare(Plan::new(&checkpoint), Storage::F32).unwrap();
    assert_eq!(block_on(another.run(&input, &[])).unwrap(), expected);
}

#[test]
fn short_storages_change_logits_little_and_answers_not_at_all() {
    for network in ["resnet18", "resnet50"] {
        let plan = Plan::new(&random::checkpoint(Architecture::new(network, 10).unwrap()));
        let input = images([3, 96, 64]);
        let reference = block_on(Engine::prepare(plan.clone(), Device::Cpu)).unwrap();
        let reference = block_on(reference.run(&input, &Tap::ALL)).unwrap();
        for (storage, kind) in short_storages().into_iter().flat_map(|storage| KINDS.map(|kind| (storage, kind))) {
            let mut engine = prepare(plan.clone(), storage).unwrap();
            engine.gpu.kind = kind;
            let output = block_on(engine.run(&input, &Tap::ALL)).unwrap();
            let difference = relative_difference(&output.logits.values, &reference.logits.values);
            assert!(difference < 1e-2, "{network}, {storage:?}, {kind:?}: {difference}");
            for image in 0..3 {
                let [ours, reference] = [&output, &reference].map(|output| {
                    let row = output.logits.row(image);
                    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
                });
                assert_eq!(ours, reference, "{network}, {storage:?}, {kind:?}, image {image}");
            }
            for (ours, reference) in output.kept.iter().zip(&reference.kept) {
                let difference = relative_difference(&ours.values, &reference.values);
                assert!(difference < 1e-2, "{network}, {storage:?}, {kind:?}, {:?}: {difference}", ours.tap);
            }
        }
    }
}

/// No value is, but some sums of the stem are; behind ReLUs and a mean nothing would show it.
#[test]
fn what_is_too_large_for_f16_is_a_failure() {
    let plan = Plan::new(&random::checkpoint(Architecture::new("resnet18", 10).unwrap()));
    let of = |value: f32| {
        let planes = random::Uniform::new(1).take(3 * 64 * 64).map(|x| x * value).collect();
        Input::Normalised(Normalised::new(planes, [1, 64, 64]).unwrap())
    };
    for (storage, kind) in short_storages().into_iter().flat_map(|storage| KINDS.map(|kind| (storage, kind))) {
        let mut engine = prepare(plan.clone(), storage).unwrap();
        engine.gpu.kind = kind;
        for (value, expected) in [(1.0, None), (60_000.0, Some("is larger")), (70_000.0, Some("it holds"))] {
            let output = block_on(engine.run(&of(value), &[]));
            match expected.filter(|_| storage == Storage::F16) {
                Some(reason) => assert!(output.unwrap_err().to_string().contains(reason), "{kind:?}, {value}"),
                None => assert!(output.is_ok(), "{storage:?}, {kind:?}, {value}"),
            }
        }
    }
}

#[test]
fn a_weight_that_is_too_large_for_f16_is_a_failure() {
    let mut layer = plan([3, 20, 3, 1, 1]);
    let Operation::Convolution(convolution) = &mut layer.operations[0] else { unreachable!() };
    convolution.weight[7] = 1e5;
    assert!(prepare(layer.clone(), Storage::F32).is_ok());
    let error = prepare(layer, Storage::PackedWeights).err().unwrap();
    assert!(error.to_string().contains("layer has the weight 100000"), "{error}");
}
