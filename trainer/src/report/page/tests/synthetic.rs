//! Synthetic reports, which are the same in every run of the tests.

use crate::data::{Sample, SampleLocation};
use crate::evaluation::{Calibration, ConfusionMatrix, Evaluation, EvaluationDetails, PhotoPrediction};
use crate::report::content::Report;
use crate::report::evaluation_report::{CheckpointSummary, EvaluationReport};
use crate::report::history::RunHistory;
use crate::report::photos::{ErrorPhoto, PairPhotos, ReportPhotos};
use crate::training::{EpochRecord, StepRecord, TrainMetrics, ValidationMetrics};
use model::preprocess::Photo;
use std::cell::OnceCell;
use std::time::Duration;

/// Names that a page may contain only in escaped form, that are equal, long, empty, or of other scripts.
pub const HOSTILE: [&str; 10] = [
    "</script><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "Tom & Jerry's \"cat\" &amp; 'dog'",
    "crane",
    "crane",
    "",
    "猫とネズミ、それからとても長い名前の動物",
    "\u{202e}\u{5d7}\u{5ea}\u{5d5}\u{5dc}",
    "control \u{1}\u{7} characters",
    "]]>-->",
];

/// Returns a number from 0 to 1 for an index and a purpose, by the mixing function of SplitMix64.
pub fn random(index: usize, purpose: u64) -> f64 {
    let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}

pub fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// Returns an evaluation in which a fifth of the photos is misclassified, mostly within groups of five classes.
pub fn evaluation(labels: Vec<String>, photos: usize) -> EvaluationReport {
    let classes = labels.len();
    let predictions: Vec<_> = (0..photos).map(|sample| prediction(sample, classes)).collect();
    let mut confusion = ConfusionMatrix::new(classes);
    predictions.iter().for_each(|prediction| confusion.add(prediction.class, prediction.predicted()));
    let rate =
        |limit: usize| predictions.iter().filter(|prediction| prediction.rank < limit).count() as f64 / photos as f64;
    let loss = predictions.iter().map(|prediction| prediction.loss).sum::<f64>() / photos as f64;
    let metrics = Evaluation { loss, top1: rate(1), top5: rate(5), photos, skipped: 0 };
    let sample = |sample: usize| {
        let class = sample % classes;
        let file = format!("/photos/val/n{class:04}/photo-{sample:05}.jpg");
        Sample { location: SampleLocation::File(file.into()), class }
    };
    EvaluationReport {
        checkpoint: CheckpointSummary {
            name: "best.safetensors".into(),
            architecture: "resnet50".into(),
            provenance: Some("fine-tuned from resnet50_v1-imagenet".into()),
            side: 224,
            temperature: Some(1.5),
            rejection_threshold: Some(0.4),
        },
        data: "/photos".into(),
        device: "cpu".into(),
        duration: Duration::from_millis(75_400),
        command: "trainer evaluate --checkpoint best.safetensors --data /photos --report report".into(),
        classes: (0..classes).map(|class| format!("n{class:04}")).collect(),
        labels,
        calibration: Calibration::new(&predictions),
        similarity: OnceCell::new(),
        details: EvaluationDetails { metrics, confusion, predictions, skipped: Vec::new() },
        samples: (0..photos).map(sample).collect(),
        photos: None,
    }
}

fn prediction(sample: usize, classes: usize) -> PhotoPrediction {
    let class = sample % classes;
    let is_error = classes > 1 && random(sample, 1) < 0.2;
    let first = class / 5 * 5;
    let neighbour = if random(sample, 2) < 0.8 {
        first + (random(sample, 3) * 5.0) as usize
    } else {
        (random(sample, 3) * classes as f64) as usize
    };
    let neighbour = neighbour.min(classes - 1);
    let predicted = if is_error && neighbour != class { neighbour } else { class };
    let is_error = predicted != class;
    let confidence =
        if is_error { 0.3 + 0.65 * random(sample, 4) } else { 1.0 - 0.6 * random(sample, 4).powi(2) } as f32;
    let class_probability = if is_error { 0.5 * (1.0 - confidence) } else { confidence };
    let second = if is_error { class } else { (class + 1) % classes };
    PhotoPrediction {
        sample,
        class,
        top: vec![(predicted, confidence), (second, 0.5 * (1.0 - confidence))],
        class_probability,
        rank: usize::from(is_error) * (1 + sample % 6),
        loss: f64::from(-class_probability.max(1e-6).ln()),
    }
}

/// Adds as many photos as a report has at most.
pub fn with_photos(mut report: EvaluationReport) -> EvaluationReport {
    let errors = report.details.most_confident_errors(24).into_iter().map(|prediction| ErrorPhoto {
        prediction: prediction.clone(),
        photo: photo(prediction.sample),
        predicted_map: photo(prediction.sample + 1),
        class_map: photo(prediction.sample + 2),
    });
    let predictions = &report.details.predictions;
    let pairs = report.details.confusion.most_confused(12).into_iter().map(|pair| {
        let photos = predictions
            .iter()
            .filter(|prediction| prediction.class == pair.actual && prediction.predicted() == pair.predicted);
        PairPhotos {
            pair,
            photos: photos.take(6).map(|prediction| (prediction.clone(), photo(prediction.sample))).collect(),
        }
    });
    report.photos = Some(ReportPhotos { errors: errors.collect(), pairs: pairs.collect() });
    report
}

/// Returns a JPEG of 160 x 160 pixels and about 8 kB.
fn photo(seed: usize) -> Vec<u8> {
    let value = |x: usize, y: usize, channel: usize| {
        let wave = ((x * (seed % 5 + 1) + y * (seed % 3 + 1)) as f64 / 23.0 + channel as f64).sin();
        (128.0 + 70.0 * wave + 57.0 * (random((y * 160 + x) / 3, seed as u64) - 0.5)) as u8
    };
    let pixels = (0..160 * 160).flat_map(|at| [0, 1, 2].map(|channel| value(at % 160, at / 160, channel)));
    Photo::new(160, 160, pixels.collect()).unwrap().to_jpeg(80).unwrap()
}

/// Returns a run with this many completed epochs of 400 steps.
pub fn run(name: &str, epochs: usize, learning_rate: f64) -> RunHistory {
    let train = |progress: f64, seed: usize, seconds: f64| TrainMetrics {
        loss: Some(0.5 + 1.8 * (-3.0 * progress).exp() + 0.1 * (random(seed, 11) - 0.5)),
        top1: Some(0.85 - 0.7 * (-3.0 * progress).exp() + 0.04 * (random(seed, 12) - 0.5)),
        seconds,
        images_per_second: Some(310.0 + 40.0 * (random(seed, 13) - 0.5)),
        waiting: Some(0.02 + 0.05 * random(seed, 14)),
    };
    let steps = (0..epochs * 40).map(|index| StepRecord {
        epoch: index / 40 + 1,
        step: (index % 40 + 1) * 10,
        learning_rate: learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * index as f64 / (epochs * 40) as f64).cos()),
        train: train(index as f64 / 400.0, index, 2.0),
    });
    let top1 = |epoch: usize| 0.8 - 0.6 * (-0.4 * epoch as f64).exp() + 0.03 * (random(epoch, 15) - 0.5);
    let epoch_records = (1..=epochs).map(|epoch| EpochRecord {
        epoch,
        train: train(epoch as f64 / 10.0 - 0.05, 0, 80.0),
        val: ValidationMetrics {
            loss: Some(0.7 + 1.6 * (-0.4 * epoch as f64).exp() + 0.05 * random(epoch, 16)),
            top1: top1(epoch),
            top5: 0.95,
            photos: 3925,
        },
        skipped: 2,
        best: (1..epoch).all(|earlier| top1(earlier) < top1(epoch)),
    });
    RunHistory {
        photos: "0123abcd".into(),
        name: name.into(),
        recipe: format!(
            "checkpoint = \"resnet50_v1-imagenet\"\nepochs = {epochs}\nlearning-rate = {learning_rate}\nseed = 0\n"
        ),
        data: "/photos".into(),
        devices: "2 GPUs".into(),
        commands: vec![format!(
            "trainer --data /photos --recipe finetune --gpus 2 --output runs/{name}  (version 0.1.0)"
        )],
        steps_per_epoch: 400,
        features: Vec::new(),
        steps: steps.collect(),
        epochs: epoch_records.collect(),
    }
}

pub fn report(runs: Vec<RunHistory>, evaluation: Option<EvaluationReport>) -> Report {
    Report { title: "Training of resnet50 on photos".into(), runs, evaluation, notes: Vec::new() }
}
