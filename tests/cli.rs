//! The trainer's command line: output, exit status, error messages, and predictions equal to the server's.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Arguments;
use model::checkpoint::{Checkpoint, Metadata};
use model::prediction::{PhotoOutcome, Prediction};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tests::agreement::assert_agreement;
use tests::server::Server;
use tests::{data, workspace};

const RESNET18: &str = "checkpoints/resnet18-imagenette.safetensors";
const RESNET50: &str = "checkpoints/resnet50_v1-imagenet.safetensors";

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        data::bare_trial("predict_keeps_the_order_of_the_photos", keeps_order),
        data::bare_trial("predict_continues_after_a_broken_photo_and_fails_at_the_end", continues_after_a_broken_photo),
        data::bare_trial("predict_classifies_the_photos_of_a_folder", classifies_a_folder),
        data::bare_trial("predict_writes_csv", writes_csv),
        data::bare_trial("predictions_equal_the_servers", equals_the_server),
        data::bare_trial("convert_preserves_predictions", convert),
        data::bare_trial("exported_files_predict_the_same_after_import", exports),
        data::bare_trial("export_that_fails_keeps_the_existing_file", failed_export_keeps_the_file),
        data::bare_trial("calibration_is_applied_by_trainer_and_server", calibration),
        data::bare_trial("inspect_describes_the_bundled_checkpoints", inspect),
        data::bare_trial("rejects_invalid_arguments", rejects_invalid_arguments),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// A line of `predict --json`.
#[derive(Deserialize)]
struct JsonLine {
    file: String,
    #[serde(flatten)]
    outcome: PhotoOutcome,
}

impl JsonLine {
    fn prediction(&self) -> Result<&Prediction> {
        match &self.outcome {
            PhotoOutcome::Prediction(prediction) => Ok(prediction),
            PhotoOutcome::Failure(failure) => anyhow::bail!("{}: {}", self.file, failure.error.message),
        }
    }
}

/// Runs the trainer in the root folder of the workspace, where the bundled checkpoints and samples are.
fn trainer<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Output> {
    let mut command = Command::new(workspace::binary("trainer")?);
    command.current_dir(workspace::root()).args(arguments).output().context("cannot start the trainer")
}

/// Returns the stdout of a run.
///
/// # Errors
/// Returns an error with its stderr if the exit status is not 0.
fn successful_stdout(output: &Output) -> Result<&str> {
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(std::str::from_utf8(&output.stdout)?)
}

/// Parses the stdout of `predict --json`.
fn json_lines(output: &Output) -> Result<Vec<JsonLine>> {
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

fn keeps_order() -> Result<()> {
    let output = trainer([
        "predict",
        "samples/rocket.jpg",
        "samples/cat.jpg",
        "--checkpoint",
        RESNET50,
        "--top-k",
        "3",
        "--json",
    ])?;
    successful_stdout(&output)?;
    let lines = json_lines(&output)?;
    let files: Vec<_> = lines.iter().map(|line| line.file.as_str()).collect();
    ensure!(files == ["samples/rocket.jpg", "samples/cat.jpg"], "{files:?}");
    for (line, expected) in lines.iter().zip(["missile", "Egyptian cat"]) {
        let prediction = line.prediction()?;
        ensure!(prediction.predictions.len() == 3, "{prediction:?}");
        ensure!(prediction.predictions.iter().any(|ranked| ranked.label == expected), "{prediction:?}");
        ensure!(prediction.backend == "cpu" && prediction.architecture == "resnet50_v1", "{prediction:?}");
    }
    Ok(())
}

fn continues_after_a_broken_photo() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let broken = folder.path().join("broken.jpg");
    std::fs::write(&broken, &std::fs::read(workspace::sample("cat.jpg"))?[..300])?;
    let arguments = ["predict", utf8(&broken)?, "samples/cat.jpg", "missing.jpg", "--checkpoint", RESNET18, "--json"];
    let output = trainer(arguments)?;
    ensure!(!output.status.success(), "the exit status is 0 although photos could not be classified");
    let lines = json_lines(&output)?;
    ensure!(lines.len() == 3, "{} lines", lines.len());
    lines[1].prediction()?;
    for (line, code) in [(&lines[0], "undecodable"), (&lines[2], "unreadable")] {
        let PhotoOutcome::Failure(failure) = &line.outcome else { anyhow::bail!("{} was classified", line.file) };
        ensure!(failure.error.code == code, "{failure:?}");
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(stderr.contains("2 of 3 photos"), "{stderr}");
    Ok(())
}

fn classifies_a_folder() -> Result<()> {
    let output = trainer(["predict", "samples", "--checkpoint", RESNET18, "--json"])?;
    successful_stdout(&output)?;
    let files: Vec<_> = json_lines(&output)?.into_iter().map(|line| line.file).collect();
    let expected = ["cat", "coffee", "flower", "palace", "rocket"].map(|photo| format!("samples/{photo}.jpg"));
    ensure!(files == expected, "{files:?}");
    let cyclic = tempfile::tempdir()?;
    std::fs::copy(workspace::sample("cat.jpg"), cyclic.path().join("cat.jpg"))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(cyclic.path(), cyclic.path().join("again"))?;
    let output = trainer(["predict", utf8(cyclic.path())?, "--checkpoint", RESNET18, "--json"])?;
    successful_stdout(&output)?;
    ensure!(json_lines(&output)?.len() == 1, "a cyclic link was followed");
    let empty = tempfile::tempdir()?;
    let output = trainer(["predict", utf8(empty.path())?, "--checkpoint", RESNET18])?;
    ensure!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no photos in"));
    Ok(())
}

fn writes_csv() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("answers.csv");
    let arguments = ["predict", "samples/cat.jpg", "--checkpoint", RESNET50, "--top-k", "2", "--csv", utf8(&path)?];
    let output = trainer(arguments)?;
    ensure!(successful_stdout(&output)?.contains("samples/cat.jpg"), "the table is not printed");
    let text = std::fs::read_to_string(&path)?;
    let rows: Vec<_> = text.lines().collect();
    ensure!(rows.len() == 3 && rows[0] == "file,rank,index,label,probability,error", "{text}");
    ensure!(rows[1].starts_with("samples/cat.jpg,1,") && rows[2].starts_with("samples/cat.jpg,2,"), "{text}");
    Ok(())
}

fn equals_the_server() -> Result<()> {
    let server = Server::start()?;
    let client = reqwest::blocking::Client::new();
    for checkpoint in [RESNET18, RESNET50] {
        let output = trainer(["predict", "samples", "--checkpoint", checkpoint, "--json"])?;
        successful_stdout(&output)?;
        let model = Path::new(checkpoint).file_stem().and_then(|stem| stem.to_str()).context("no file name")?;
        for line in json_lines(&output)? {
            let photo = std::fs::read(workspace::root().join(&line.file))?;
            let request = client.post(format!("{}/predict?model={model}", server.url())).body(photo);
            let from_server: Prediction = request.send()?.error_for_status()?.json()?;
            ensure!(from_server.model == model, "{from_server:?}");
            assert_agreement(line.prediction()?, &from_server)?;
        }
    }
    Ok(())
}

fn convert() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = trainer(["predict", "samples", "--checkpoint", RESNET18, "--json"])?;
    successful_stdout(&output)?;
    let before = json_lines(&output)?;
    ensure!(before.len() == 5, "{} sample photos", before.len());
    for dtype in ["f32", "f16"] {
        let path: PathBuf = folder.path().join(format!("{dtype}.safetensors"));
        successful_stdout(&trainer(["convert", RESNET18, utf8(&path)?, "--dtype", dtype])?)?;
        let output = trainer(["predict", "samples", "--checkpoint", utf8(&path)?, "--json"])?;
        successful_stdout(&output)?;
        let after = json_lines(&output)?;
        ensure!(after.len() == before.len(), "{} predictions", after.len());
        for (before, after) in before.iter().zip(after) {
            assert_agreement(before.prediction()?, after.prediction()?)?;
        }
    }
    Ok(())
}

fn exports() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let imported = folder.path().join("imported.safetensors");
    for (checkpoint, format, options) in [
        (RESNET18, "onnx", &[][..]),
        (RESNET18, "onnx", &["--keep-batch-norms", "--dynamic-size", "--batch", "2"]),
        (RESNET50, "onnx", &[]),
        (RESNET18, "pth", &[]),
        (RESNET18, "safetensors", &[]),
    ] {
        let path = folder.path().join(format!("model.{format}"));
        let export = ["export", checkpoint, "--format", format, "--output", utf8(&path)?];
        successful_stdout(&trainer(export.into_iter().chain(options.iter().copied()))?)?;
        successful_stdout(&trainer(["import", utf8(&path)?, utf8(&imported)?, "--names-from", checkpoint])?)?;
        let predict = |checkpoint: &str| {
            let output = trainer(["predict", "samples", "--checkpoint", checkpoint, "--json"])?;
            successful_stdout(&output)?;
            json_lines(&output)
        };
        let (before, after) = (predict(checkpoint)?, predict(utf8(&imported)?)?);
        ensure!(before.len() == 5 && after.len() == 5, "{} and {} predictions", before.len(), after.len());
        for (before, after) in before.iter().zip(after) {
            assert_agreement(before.prediction()?, after.prediction()?)?;
        }
    }
    let hub = folder.path().join("hub");
    successful_stdout(&trainer(["export", RESNET50, "--format", "hub", "--output", utf8(&hub)?])?)?;
    let files = std::fs::read_dir(&hub)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut files = files.collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(files == ["README.md", "model.onnx", "model.ts", "shortcut.safetensors"], "{files:?}");
    Ok(())
}

fn failed_export_keeps_the_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, "existing")?;
    let export = ["export", RESNET18, "--format", "onnx", "--output", utf8(&path)?];
    let check = ["--check", "samples", "--max-drop", "1", "--python", "no-such-python"];
    let output = trainer(export.into_iter().chain(check))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && stderr.contains("no-such-python"), "{stderr}");
    ensure!(std::fs::read(&path)? == b"existing", "the existing file was replaced");
    ensure!(std::fs::read_dir(folder.path())?.count() == 1, "temporary files are left");
    // Without a limit, the check is optional.
    let output = trainer(export.into_iter().chain(["--check", "samples", "--python", "no-such-python"]))?;
    ensure!(successful_stdout(&output)?.contains("onnx, resnet18, 10 classes"), "{output:?}");
    ensure!(String::from_utf8_lossy(&output.stderr).contains("not checked"), "{output:?}");
    Ok(())
}

/// The sample photos show no class of the small model, so they only serve as input.
fn calibration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (path, converted) = (folder.path().join("calibrated.safetensors"), folder.path().join("f32.safetensors"));
    let checkpoint = Checkpoint::from_path(workspace::root().join(RESNET18))?;
    let metadata = checkpoint.metadata().clone();
    let metadata = Metadata { temperature: Some(4.0), rejection_threshold: Some(1.0), ..metadata };
    checkpoint.with_metadata(metadata)?.save(&path)?;
    successful_stdout(&trainer(["convert", utf8(&path)?, utf8(&converted)?, "--dtype", "f32"])?)?;
    let predict = |checkpoint: &str| {
        let output = trainer(["predict", "samples/cat.jpg", "--checkpoint", checkpoint, "--json"])?;
        successful_stdout(&output)?;
        Ok::<_, anyhow::Error>(json_lines(&output)?[0].prediction()?.clone())
    };
    let (raw, calibrated) = (predict(RESNET18)?, predict(utf8(&converted)?)?);
    ensure!((raw.below_threshold, calibrated.below_threshold) == (None, Some(true)), "{raw:?} {calibrated:?}");
    // Division of the logits by 4 takes the fourth root of each ratio of probabilities.
    let log_ratio = |prediction: &Prediction| {
        let [first, second, ..] = &prediction.predictions[..] else { panic!("five classes") };
        (first.probability / second.probability).ln()
    };
    ensure!((log_ratio(&raw) / log_ratio(&calibrated) - 4.0).abs() < 0.05, "{raw:?} {calibrated:?}");

    let server = Server::start_with(["--model", &format!("mine={}", path.display())])?;
    let photo = std::fs::read(workspace::root().join("samples/cat.jpg"))?;
    let response = reqwest::blocking::Client::new().post(format!("{}/predict", server.url())).body(photo).send()?;
    let from_server: Prediction = response.error_for_status()?.json()?;
    ensure!(from_server.below_threshold == Some(true), "{from_server:?}");
    assert_agreement(&calibrated, &from_server)?;

    let table = trainer(["predict", "samples/cat.jpg", "--checkpoint", utf8(&path)?])?;
    ensure!(successful_stdout(&table)?.contains("The model is not confident"), "the table has no note");
    let table = trainer(["inspect", utf8(&converted)?])?;
    ensure!(successful_stdout(&table)?.contains("rejection threshold"), "the threshold is not shown");
    Ok(())
}

fn inspect() -> Result<()> {
    for (checkpoint, architecture, classes) in [(RESNET18, "resnet18", 10), (RESNET50, "resnet50_v1", 1000)] {
        let table = trainer(["inspect", checkpoint])?;
        ensure!(successful_stdout(&table)?.contains(architecture));
        let json: serde_json::Value =
            serde_json::from_str(successful_stdout(&trainer(["inspect", checkpoint, "--json"])?)?)?;
        let metadata = &json["metadata"];
        ensure!(metadata["architecture"]["name"] == architecture, "{metadata}");
        ensure!(metadata["labels"].as_array().is_some_and(|labels| labels.len() == classes), "{metadata}");
        ensure!(metadata["provenance"].as_str().is_some_and(|provenance| !provenance.is_empty()), "{metadata}");
    }
    Ok(())
}

fn rejects_invalid_arguments() -> Result<()> {
    let cases: [(&[&str], &str); 12] = [
        (&["predict", "samples/cat.jpg", "--checkpoint", "nowhere.safetensors"], "nowhere.safetensors"),
        (&["predict", "samples/cat.jpg", "--checkpoint", "samples/cat.jpg"], "samples/cat.jpg"),
        (&["predict", "samples/cat.jpg", "--checkpoint", RESNET18, "--device", "gpu"], "valid devices are cpu"),
        (&["predict", "samples/cat.jpg", "--checkpoint", RESNET18, "--device", "cuda"], "--features cuda"),
        (
            &["predict", "samples/cat.jpg", "--checkpoint", RESNET18, "--architecture", "resnet34"],
            "layer1.2.conv1.weight",
        ),
        (&["predict", "samples/cat.jpg", "--checkpoint", RESNET18, "--top-k", "0"], "--top-k"),
        (
            &["predict", "samples/cat.jpg", "--checkpoint", RESNET18, "--precision", "fp8"],
            "valid precisions are f32, bf16 and f16",
        ),
        (
            &["export", RESNET50, "--format", "pth", "--output", "refused.pth"],
            "would load the weights and answer differently; export it as onnx, torchscript, hub",
        ),
        (&["export", RESNET18, "--format", "pth", "--output", "refused.pth", "--softmax"], "applies to --format onnx"),
        (
            &["export", RESNET18, "--format", "onnx", "--output", "no", "--dtype", "f16", "--keep-batch-norms"],
            "requires folded batch norms",
        ),
        (&["bench", "--threads", "99999"], "'--threads <N>': must be at most"),
        (&["bench", "--device", "flex", "--precision", "bf16"], "bf16 requires the device cpu"),
    ];
    for (arguments, expected) in cases {
        let output = trainer(arguments.iter().copied())?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "{arguments:?} succeeded");
        ensure!(stderr.contains(expected), "{arguments:?} says {stderr:?}, not {expected:?}");
        ensure!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
    Ok(())
}
