//! Compares the model with PyTorch and torchvision: on the sample photos in a bare clone, and on the optional data if
//! present.

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Arguments, Trial};
use model::checkpoint::{Checkpoint, pth};
use model::engine::cpu::InstructionSet;
use model::engine::{AdapterKind, Device, Engine, EngineOptions, Input, Normalised, Output, Precision};
use model::plan::{Plan, Tap};
use model::preprocess::{ImageBatch, Limits, Photo, Preprocessing};
use pollster::block_on;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::sync::LazyLock;
use tests::{data, workspace};

const GOLDEN: &str = "tests/golden/golden.safetensors";
const PHOTOS: [&str; 5] = ["cat", "coffee", "flower", "palace", "rocket"];
const RESNET18: &str = "checkpoints/resnet18-imagenette.safetensors";
const RESNET50: &str = "checkpoints/resnet50_v1-imagenet.safetensors";

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        data::bare_trial("crops_of_sample_photos_match_torchvision", sample_crops),
        data::bare_trial("logits_of_bundled_resnet18_match_pytorch", || golden_logits(RESNET18)),
        data::bare_trial("logits_of_bundled_resnet50_match_pytorch", || golden_logits(RESNET50)),
        data::trial("logits_and_stages_of_resnet50_match_pytorch", reference_tensors),
        data::trial("logits_of_resnet50_match_pytorch_on_reference_photos", reference_photos),
        data::trial("logits_of_resnet18_match_pytorch_on_validation_photos", validation_logits),
        data::trial("predictions_of_resnet18_match_pytorch_on_validation_photos", || validation(&RESNET18_RUN)),
        data::trial("predictions_of_resnet50_match_pytorch_on_validation_photos", || validation(&RESNET50_RUN)),
        data::trial("bundled_resnet18_agrees_with_its_original_weights", || bundled(RESNET18, &RESNET18_RUN)),
        data::trial("bundled_resnet50_agrees_with_its_original_weights", || bundled(RESNET50, &RESNET50_RUN)),
        if_processor_has_bf16(data::trial("bf16_predictions_of_resnet18_match_pytorch", || bf16(&RESNET18_RUN))),
        if_processor_has_bf16(data::trial("bf16_predictions_of_resnet50_match_pytorch", || bf16(&RESNET50_RUN))),
        data::trial("f16_predictions_of_resnet18_on_webgpu_match_f32", || f16(&RESNET18_RUN)),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// Lists a test as ignored if the processor does not support bf16.
fn if_processor_has_bf16(trial: Trial) -> Trial {
    if InstructionSet::best().supports_bf16() {
        return trial;
    }
    trial.with_kind("no AVX512-BF16").with_ignored_flag(true)
}

/// PyTorch's results for some photos.
#[derive(Deserialize)]
struct Reference<T> {
    photos: Vec<T>,
}

/// Number of validation photos that PyTorch classified, 80 of each class.
const VALIDATION_PHOTOS: usize = 800;

/// Crops of the validation photos that the tests use, decoded once for all tests.
static VALIDATION_CROPS: LazyLock<Result<Vec<ImageBatch>>> = LazyLock::new(|| {
    let files = validation_photos(&RESNET18_RUN)?.0;
    files.iter().map(|file| crop(file)).collect()
});

/// A reference run over the validation photos.
struct ValidationRun {
    weights: &'static str,
    architecture: &'static str,
    reference: &'static str,
}

const RESNET18_RUN: ValidationRun = ValidationRun {
    weights: "weights/resnet18-imagenette.pth",
    architecture: "resnet18",
    reference: "reference/resnet18-imagenette.json",
};
const RESNET50_RUN: ValidationRun = ValidationRun {
    weights: "weights/resnet50_v1-imagenet-f16.safetensors",
    architecture: "resnet50_v1",
    reference: "reference/resnet50_v1-imagenette-224-val.json",
};

fn sample_crops() -> Result<()> {
    let golden = std::fs::read(workspace::root().join(GOLDEN))?;
    let golden = SafeTensors::deserialize(&golden)?;
    let expected = golden.tensor("cropped_u8")?;
    ensure!(expected.shape() == [PHOTOS.len(), 224, 224, 3], "{:?}", expected.shape());
    for (photo, expected) in PHOTOS.iter().zip(expected.data().chunks_exact(224 * 224 * 3)) {
        let bytes = std::fs::read(workspace::sample(&format!("{photo}.jpg")))?;
        let batch = Preprocessing::default().apply(&Photo::decode(&bytes, &Limits::default())?);
        let differences = batch.pixels().iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
        let largest = differences.max().context("no pixels")?;
        ensure!(largest <= 2, "{photo}: a value differs by {largest}");
    }
    Ok(())
}

fn golden_logits(path: &str) -> Result<()> {
    let golden = std::fs::read(workspace::root().join(GOLDEN))?;
    let golden = SafeTensors::deserialize(&golden)?;
    let name = path.rsplit('/').next().and_then(|file| file.strip_suffix(".safetensors")).context("no file name")?;
    let checkpoint = Checkpoint::from_path(workspace::root().join(path))?;
    let Preprocessing { mean, std, .. } = checkpoint.metadata().preprocessing;
    let pixels = golden.tensor("cropped_u8")?.data().to_vec();
    let batch = ImageBatch::new(pixels, [PHOTOS.len(), 224, 224], mean, std)?;
    let logits = run(&checkpoint, &Input::Pixels(batch), &[])?.logits;
    assert_near(&logits.values, &floats(golden.tensor(name)?.data()), 1e-3, name)
}

fn reference_tensors() -> Result<()> {
    let checkpoint = original_weights(&RESNET50_RUN)?;
    let reference = data::read("reference/resnet50_v1.safetensors")?;
    let reference = SafeTensors::deserialize(&reference)?;
    let tensor = |name: &str| Ok::<_, anyhow::Error>(floats(reference.tensor(name)?.data()));

    let images = Normalised::new(tensor("input_0_4")?, [4, 224, 224])?;
    let logits = run(&checkpoint, &Input::Normalised(images), &[])?.logits;
    assert_near(&logits.values, &tensor("logits")?[..4 * 1000], 1e-3, "logits")?;

    let first = Normalised::new(tensor("input_0_4")?[..3 * 224 * 224].to_vec(), [1, 224, 224])?;
    let activations = run(&checkpoint, &Input::Normalised(first), &Tap::STEM_AND_STAGES[1..])?.activations;
    ensure!(activations.len() == 4, "{} stages", activations.len());
    for activation in activations {
        let stage = Tap::STEM_AND_STAGES.iter().position(|tap| *tap == activation.tap).context("unknown tap")?;
        let expected = tensor(&format!("input_0_1.layer{stage}"))?;
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        assert_near(&activation.values, &expected, 1e-3 * largest, &format!("layer{stage}"))?;
    }
    Ok(())
}

fn reference_photos() -> Result<()> {
    #[derive(Deserialize)]
    struct Expected {
        file: String,
        top5: [usize; 5],
    }
    let photos = data::read_json::<Reference<Expected>>("reference/resnet50_v1.json")?.photos;
    ensure!(photos.len() == 33, "{} reference photos", photos.len());
    let crops = photos.iter().map(|photo| crop(&format!("photos/{}", photo.file))).collect::<Result<Vec<_>>>()?;
    let logits = logits(&original_weights(&RESNET50_RUN)?, &crops, Device::Cpu, EngineOptions::default())?;
    for (photo, logits) in photos.iter().zip(&logits) {
        let top1 = largest(logits);
        ensure!(top1 == photo.top5[0], "{}: class {top1}, expected {}", photo.file, photo.top5[0]);
    }
    let expected = data::read("reference/resnet50_v1.safetensors")?;
    let expected = floats(SafeTensors::deserialize(&expected)?.tensor("logits")?.data());
    assert_near(&logits.concat(), &expected, 1e-3, "logits of reference photos")
}

fn validation_logits() -> Result<()> {
    #[derive(Deserialize)]
    struct Expected {
        logits_of: Vec<String>,
    }
    let files = data::read_json::<Expected>(RESNET18_RUN.reference)?.logits_of;
    ensure!(files.len() == 160, "{} validation photos with logits", files.len());
    let crops = files.iter().map(|file| crop(&validation_path(file))).collect::<Result<Vec<_>>>()?;
    let logits = logits(&original_weights(&RESNET18_RUN)?, &crops, Device::Cpu, EngineOptions::default())?;
    let expected = data::read("reference/resnet18-imagenette.safetensors")?;
    let expected = floats(SafeTensors::deserialize(&expected)?.tensor("logits")?.data());
    assert_near(&logits.concat(), &expected, 1e-3, "logits of validation photos")
}

/// Checks that at least 99 % of the predictions equal PyTorch's.
fn validation(run: &ValidationRun) -> Result<()> {
    let agreement = agreement(&original_weights(run)?, run, Precision::F32)?;
    println!("{}: {:.2} % of the predictions equal PyTorch's", run.architecture, 100.0 * agreement);
    ensure!(agreement >= 0.99, "only {agreement} of the predictions equal PyTorch's");
    Ok(())
}

/// Checks that at least 97 % of the predictions equal those of the original weights, before their conversion to int8.
fn bundled(path: &str, run: &ValidationRun) -> Result<()> {
    let agreement = agreement(&Checkpoint::from_path(workspace::root().join(path))?, run, Precision::F32)?;
    println!("{path}: {:.2} % of the predictions equal those of {}", 100.0 * agreement, run.weights);
    ensure!(agreement >= 0.97, "only {agreement} of the predictions equal those of {}", run.weights);
    Ok(())
}

/// Checks that at least 98 % of the predictions in bf16 equal PyTorch's in f32.
fn bf16(run: &ValidationRun) -> Result<()> {
    let agreement = agreement(&original_weights(run)?, run, Precision::Bf16)?;
    println!("{}: {:.2} % of the predictions in bf16 equal PyTorch's", run.architecture, 100.0 * agreement);
    ensure!(agreement >= 0.98, "only {agreement} of the predictions in bf16 equal PyTorch's");
    Ok(())
}

/// Checks that f16 on the WebGPU engine gives logits close to those in f32, and the same predictions unless two classes
/// are nearly equally likely. Since software adapters are slow, it uses only every eighth of the photos, which include
/// some of each class.
fn f16(run: &ValidationRun) -> Result<()> {
    let checkpoint = original_weights(run)?;
    let crops: Vec<ImageBatch> = validation_crops()?.iter().step_by(8).cloned().collect();
    let f32 = logits(&checkpoint, &crops, Device::Cpu, EngineOptions::default())?;
    // The kernels for GPUs, which multiply in f16; those for software adapters multiply in f32.
    let (precision, adapter_kind) = (Precision::F16, Some(AdapterKind::Direct));
    let options = EngineOptions { precision, adapter_kind, ..EngineOptions::default() };
    let f16 = logits(&checkpoint, &crops, Device::WebGpu(0), options)?;
    let mut equal = 0;
    let files = validation_photos(run)?.0.into_iter().step_by(8);
    for (file, (f32, f16)) in files.zip(f32.iter().zip(&f16)) {
        let [one, other] = [f32, f16].map(|logits| largest(logits));
        let scale = f32.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
        let difference = f32.iter().zip(f16).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        ensure!(difference < 5e-3 * scale, "{file}: a logit differs by {difference} of {scale}");
        ensure!(f32[one] - f32[other] < 0.01 * scale, "{file}: class {other}, expected {one}");
        equal += usize::from(one == other);
    }
    println!("{}: {equal} of {} predictions in f16 on WebGPU equal those in f32", run.architecture, crops.len());
    ensure!(100 * equal >= 98 * crops.len(), "only {equal} of {} predictions are equal", crops.len());
    Ok(())
}

/// Returns the fraction of the validation photos for which the prediction equals PyTorch's with the original weights.
fn agreement(checkpoint: &Checkpoint, run: &ValidationRun, precision: Precision) -> Result<f64> {
    let (files, predicted) = validation_photos(run)?;
    ensure!(files == validation_photos(&RESNET18_RUN)?.0, "the reference runs have different photos");
    let options = EngineOptions { precision, ..EngineOptions::default() };
    let logits = logits(checkpoint, validation_crops()?, Device::Cpu, options)?;
    let equal = predicted.iter().zip(&logits).filter(|(predicted, logits)| **predicted == largest(logits)).count();
    Ok(equal as f64 / predicted.len() as f64)
}

/// Returns how many of the validation photos the tests use: the value of `SHORTCUT_PHOTOS`, by default 200.
fn photo_count() -> Result<usize> {
    let count = std::env::var("SHORTCUT_PHOTOS")
        .map_or(Ok(200), |count| count.parse())
        .context("SHORTCUT_PHOTOS is not a number")?;
    ensure!(VALIDATION_PHOTOS.is_multiple_of(count), "SHORTCUT_PHOTOS must be a divisor of {VALIDATION_PHOTOS}");
    Ok(count)
}

/// Returns the paths of the validation photos that the tests use, and PyTorch's predictions. They are spread evenly, so
/// that they include equally many photos of each class.
fn validation_photos(run: &ValidationRun) -> Result<(Vec<String>, Vec<usize>)> {
    #[derive(Deserialize)]
    struct Expected {
        file: String,
        predicted: usize,
    }
    let photos = data::read_json::<Reference<Expected>>(run.reference)?.photos;
    ensure!(photos.len() == VALIDATION_PHOTOS, "{} validation photos", photos.len());
    let photos = photos.into_iter().step_by(VALIDATION_PHOTOS / photo_count()?);
    Ok(photos.map(|photo| (validation_path(&photo.file), photo.predicted)).unzip())
}

/// Returns the path of a validation photo in the folder of the data.
fn validation_path(file: &str) -> String {
    format!("imagenette-224-val/{file}")
}

fn validation_crops() -> Result<&'static [ImageBatch]> {
    VALIDATION_CROPS.as_deref().map_err(|error| anyhow!("{error:#}"))
}

/// Decodes a photo and returns its crop for the default preprocessing.
fn crop(file: &str) -> Result<ImageBatch> {
    let photo = Photo::decode(&data::read(file)?, &Limits::default()).with_context(|| file.to_owned())?;
    Ok(Preprocessing::default().apply(&photo))
}

/// Returns the logits of each crop.
fn logits(
    checkpoint: &Checkpoint,
    crops: &[ImageBatch],
    device: Device,
    options: EngineOptions,
) -> Result<Vec<Vec<f32>>> {
    ensure!(checkpoint.metadata().preprocessing == Preprocessing::default(), "the checkpoint needs other crops");
    let engine = block_on(Engine::prepare_with(Plan::new(checkpoint), device, options))?;
    let mut all = Vec::with_capacity(crops.len());
    for crops in crops.chunks(8) {
        let batch = ImageBatch::stack(crops.iter().cloned())?;
        let logits = block_on(engine.run(&Input::Pixels(batch), &[]))?.logits;
        all.extend((0..logits.batch).map(|row| logits.row(row).to_vec()));
    }
    Ok(all)
}

fn largest(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0)
}

/// Loads the original weights of a reference run.
fn original_weights(run: &ValidationRun) -> Result<Checkpoint> {
    let path = data::folder().join(run.weights);
    let checkpoint = if path.extension().is_some_and(|extension| extension == "pth") {
        pth::import(&path)?
    } else {
        Checkpoint::from_path(&path)?
    };
    Ok(checkpoint.with_architecture(run.architecture)?)
}

fn run(checkpoint: &Checkpoint, input: &Input, taps: &[Tap]) -> Result<Output> {
    let engine = block_on(Engine::prepare(Plan::new(checkpoint), Device::Cpu))?;
    Ok(block_on(engine.run(input, taps))?)
}

fn assert_near(values: &[f32], expected: &[f32], tolerance: f32, what: &str) -> Result<()> {
    ensure!(values.len() == expected.len(), "{what}: {} values, expected {}", values.len(), expected.len());
    let largest = values.iter().zip(expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
    println!("{what}: largest difference {largest:e}, tolerance {tolerance:e}");
    ensure!(largest < tolerance, "{what}: a value differs by {largest}, tolerance {tolerance}");
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}
