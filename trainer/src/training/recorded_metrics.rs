//! Reads the records of `metrics.jsonl`. [`Reporter`](super::reporter::Reporter) writes them.

use super::state::TrainingPosition;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// A record of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RecordedMetrics {
    Features(FeaturesRecord),
    Step(StepRecord),
    Epoch(EpochRecord),
}

/// Computation of the features of all photos, before the first step of a process that trains only the classifier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FeaturesRecord {
    pub photos: usize,
    pub seconds: f64,
}

/// Mean metrics of some steps of an epoch. Epochs and steps count from 1.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StepRecord {
    pub epoch: usize,
    /// The last of the steps.
    pub step: usize,
    pub learning_rate: f64,
    pub train: TrainMetrics,
}

/// Metrics of an epoch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EpochRecord {
    pub epoch: usize,
    pub train: TrainMetrics,
    pub val: ValidationMetrics,
    /// Number of files that could not be decoded so far.
    pub skipped: usize,
    /// Whether this is the best epoch so far.
    pub best: bool,
}

/// Metrics of training steps. A metric is `None` if it was not finite.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct TrainMetrics {
    pub loss: Option<f64>,
    /// Fraction of images that are classified correctly.
    pub top1: Option<f64>,
    pub seconds: f64,
    pub images_per_second: Option<f64>,
    /// Fraction of the time spent waiting for photos.
    pub waiting: Option<f64>,
}

/// Metrics of an evaluation, with top-1 and top-5 as fractions. The loss is `None` if it was not finite.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ValidationMetrics {
    pub loss: Option<f64>,
    pub top1: f64,
    pub top5: f64,
    pub photos: usize,
}

impl RecordedMetrics {
    /// Converts a record that is about to be written.
    ///
    /// # Errors
    /// Returns an error if it is not a record of `metrics.jsonl`.
    pub fn from_record(record: &impl Serialize) -> Result<Self> {
        Ok(serde_json::from_value(serde_json::to_value(record)?)?)
    }

    /// Reads all records of a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // The last line of a killed run may be incomplete.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns whether a run that is resumed from a position keeps the record. Records of later steps and epochs will be
    /// repeated.
    pub fn is_before(&self, position: &TrainingPosition) -> bool {
        match self {
            RecordedMetrics::Features(_) => true,
            RecordedMetrics::Step(record) => position.includes(record.epoch, Some(record.step)),
            RecordedMetrics::Epoch(record) => position.includes(record.epoch, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a run has written.
    const LINES: &str = r#"{"kind":"features","photos":398,"seconds":15.5}
{"kind":"step","epoch":1,"step":7,"learning_rate":0.005,"train":{"loss":0.69,"top1":0.5,"seconds":2.5,"images_per_second":89.6,"waiting":0.25}}
{"kind":"epoch","epoch":1,"learning_rate":0.005,"train":{"loss":0.69,"top1":0.5,"seconds":2.5,"images_per_second":89.6,"waiting":0.25},"val":{"loss":0.5,"top1":0.75,"top5":1.0,"photos":153,"skipped":0},"skipped":0,"best":true}
{"kind":"step","epoch":2,"step":7,"learning_rate":0.001,"train":{"loss":null,"top1":null,"seconds":0.0,"images_per_second":null,"waiting":null}}
{"kind":"epo"#;

    #[test]
    fn records_after_the_position_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, LINES).unwrap();
        let read = |epoch, step| {
            let position = TrainingPosition { epoch, step, ..TrainingPosition::default() };
            let mut records = RecordedMetrics::read_all(&path).unwrap();
            records.retain(|record| record.is_before(&position));
            records
        };
        let features = RecordedMetrics::Features(FeaturesRecord { photos: 398, seconds: 15.5 });
        assert_eq!(read(1, 3), std::slice::from_ref(&features));
        let train = TrainMetrics {
            loss: Some(0.69),
            top1: Some(0.5),
            seconds: 2.5,
            images_per_second: Some(89.6),
            waiting: Some(0.25),
        };
        let step = RecordedMetrics::Step(StepRecord { epoch: 1, step: 7, learning_rate: 0.005, train: train.clone() });
        // The evaluation after the last step is repeated.
        assert_eq!(read(1, 7), [features.clone(), step.clone()]);
        let val = ValidationMetrics { loss: Some(0.5), top1: 0.75, top5: 1.0, photos: 153 };
        let epoch = RecordedMetrics::Epoch(EpochRecord { epoch: 1, train, val, skipped: 0, best: true });
        assert_eq!(read(2, 0), [features, step, epoch]);
        let train = TrainMetrics::default();
        let not_finite = RecordedMetrics::Step(StepRecord { epoch: 2, step: 7, learning_rate: 0.001, train });
        assert_eq!(read(2, 7)[3..], [not_finite]);
    }
}
