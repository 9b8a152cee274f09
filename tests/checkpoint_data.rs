//! Tests the import of two real weight files by comparing sums of their tensors with sums that PyTorch computed.

use anyhow::Result;
use libtest_mimic::Arguments;
use model::checkpoint::{Checkpoint, Dtype, pth};
use std::process::ExitCode;
use tests::data;

const RESNET18: &str = "weights/resnet18-imagenette.pth";
const RESNET50: &str = "weights/resnet50_v1-imagenet-f16.safetensors";

/// A tensor's name, sum, sum of magnitudes, and last value, in double precision.
type Sums = (&'static str, f64, f64, f64);

/// `sum(v.double())`, `sum(v.double().abs())` and `v.flatten()[-1]` of tensors that `torch.load` returns.
const RESNET18_SUMS: [Sums; 3] = [
    ("conv1.weight", -1.25613933801651, 554.5436353087425, 0.10150146484375),
    ("layer3.0.downsample.1.running_var", 44.26484353840351, 44.26484353840351, 0.12393059581518173),
    ("fc.weight", 0.9448823928833008, 312.89628887176514, -0.0204010009765625),
];

/// The same sums and values of tensors that `safetensors.torch.load_file` returns.
const RESNET50_SUMS: [Sums; 3] = [
    ("conv1.weight", -264.37314808368683, 36248.194969296455, 1.177734375),
    ("layer3.0.downsample.1.running_var", 751.6129867453128, 751.6129867453128, 0.5993668437004089),
    ("fc.weight", 0.7765066027641296, 46690.3804243207, -0.00693511962890625),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = vec![
        data::trial("imports_pth_of_a_training_run", pth_of_a_training_run),
        data::trial("reads_safetensors_without_metadata", safetensors_without_metadata),
        data::trial("int8_is_within_half_a_step", int8_is_within_half_a_step),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn pth_of_a_training_run() -> Result<()> {
    let path = &data::folder().join(RESNET18);
    let checkpoint = pth::import(path)?;
    assert_eq!((checkpoint.architecture().name(), checkpoint.architecture().classes), ("resnet18".to_owned(), 10));
    assert_eq!(checkpoint.metadata().classes[0], "n01440764");
    assert_eq!(checkpoint.metadata().labels[9], "n03888257");
    assert_eq!(checkpoint.assumption(), None);
    let f16 = checkpoint.entries().filter(|entry| entry.dtype == Dtype::F16).count();
    assert_eq!(f16, 21, "20 convolutions and the classifier keep their dtype");
    check_sums(&checkpoint, &RESNET18_SUMS);
    let bytes = checkpoint.to_bytes();
    let again = Checkpoint::from_bytes(&bytes)?;
    check_sums(&again, &RESNET18_SUMS);
    assert_eq!(again.to_bytes(), bytes);
    Ok(())
}

fn safetensors_without_metadata() -> Result<()> {
    let path = &data::folder().join(RESNET50);
    let checkpoint = Checkpoint::from_path(path)?;
    assert_eq!((checkpoint.architecture().name(), checkpoint.architecture().classes), ("resnet50".to_owned(), 1000));
    assert!(checkpoint.assumption().is_some_and(|message| message.contains("resnet50_v1")));
    check_sums(&checkpoint, &RESNET50_SUMS);
    let checkpoint = checkpoint.with_architecture("resnet50_v1")?;
    let described = Checkpoint::from_bytes(&checkpoint.to_bytes())?;
    assert_eq!((described.architecture().name(), described.assumption()), ("resnet50_v1".to_owned(), None));
    Ok(())
}

fn int8_is_within_half_a_step() -> Result<()> {
    let path = &data::folder().join(RESNET50);
    let original = Checkpoint::from_path(path)?;
    let int8 = Checkpoint::from_bytes(&original.convert(Dtype::I8)?.to_bytes())?;
    for name in ["conv1.weight", "layer4.2.conv2.weight", "fc.weight"] {
        let (exact, rounded) = (original.values(name), int8.values(name));
        let rows = int8.entries().find(|entry| entry.name == name).map_or(0, |entry| entry.shape[0]);
        for (exact, rounded) in exact.chunks(exact.len() / rows).zip(rounded.chunks(exact.len() / rows)) {
            let step = exact.iter().fold(0f32, |largest, value| largest.max(value.abs())) / 127.0;
            assert!(
                exact.iter().zip(rounded).all(|(exact, rounded)| (exact - rounded).abs() <= 0.5001 * step),
                "{name}"
            );
        }
    }
    Ok(())
}

fn check_sums(checkpoint: &Checkpoint, expected: &[Sums]) {
    for (name, sum, magnitude, last) in expected {
        let values: Vec<f64> = checkpoint.values(name).into_iter().map(f64::from).collect();
        assert!((values.iter().sum::<f64>() - sum).abs() < 1e-6, "{name}");
        assert!((values.iter().map(|value| value.abs()).sum::<f64>() - magnitude).abs() < 1e-6, "{name}");
        assert_eq!(values.last(), Some(last), "{name}");
    }
}
