//! The points of a run's curves: the records of `metrics.jsonl`, without the fields that no curve shows.

use super::state::TrainingPosition;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// A record of `metrics.jsonl`. Epochs and steps count from 1. Numbers that are not finite are `None`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum CurvePoint {
    /// Mean metrics of some steps of an epoch, the last of which is `step`, with its learning rate.
    Step { epoch: usize, step: usize, learning_rate: f64, train: TrainPoint },
    /// Metrics of the evaluation after an epoch.
    Epoch { epoch: usize, val: ValidationPoint },
}

/// Mean metrics of training steps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TrainPoint {
    pub loss: Option<f64>,
    /// Fraction of images that are classified correctly.
    pub top1: Option<f64>,
    pub images_per_second: Option<f64>,
    /// Fraction of the time spent waiting for photos.
    pub waiting: Option<f64>,
}

/// Metrics of an evaluation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ValidationPoint {
    pub loss: Option<f64>,
    /// Fraction of photos that are classified correctly.
    pub top1: Option<f64>,
}

impl CurvePoint {
    /// Converts a record that is about to be written.
    ///
    /// # Errors
    /// Returns an error if it is not a record of `metrics.jsonl`.
    pub fn from_record(record: &impl Serialize) -> Result<Self> {
        Ok(serde_json::from_value(serde_json::to_value(record)?)?)
    }
}

/// Reads the records up to a position, from which a run is resumed. Later records will be repeated.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn read_curve_points(metrics: &Path, position: &TrainingPosition) -> Result<Vec<CurvePoint>> {
    let text = fs::read_to_string(metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
    // The last line may be incomplete.
    let points = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    let is_reached = |point: &CurvePoint| match *point {
        CurvePoint::Step { epoch, step, .. } => position.includes(epoch, Some(step)),
        CurvePoint::Epoch { epoch, .. } => position.includes(epoch, None),
    };
    Ok(points.filter(is_reached).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that a run has written.
    const LINES: &str = r#"{"kind":"step","epoch":1,"step":7,"learning_rate":0.005,"train":{"loss":0.69,"top1":0.5,"seconds":2.5,"images_per_second":89.6,"waiting":0.25}}
{"kind":"epoch","epoch":1,"learning_rate":0.005,"train":{"loss":0.69,"top1":0.5,"seconds":2.5,"images_per_second":89.6,"waiting":0.25},"val":{"loss":0.5,"top1":0.75,"top5":1.0,"photos":153,"skipped":0},"skipped":0,"best":true}
{"kind":"step","epoch":2,"step":7,"learning_rate":0.001,"train":{"loss":null,"top1":null,"seconds":0.0,"images_per_second":null,"waiting":null}}
{"kind":"epo"#;

    #[test]
    fn records_after_the_position_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, LINES).unwrap();
        let read = |epoch, step| {
            read_curve_points(&path, &TrainingPosition { epoch, step, ..TrainingPosition::default() }).unwrap()
        };
        assert_eq!(read(1, 3), []);
        let train =
            TrainPoint { loss: Some(0.69), top1: Some(0.5), images_per_second: Some(89.6), waiting: Some(0.25) };
        let step = CurvePoint::Step { epoch: 1, step: 7, learning_rate: 0.005, train };
        // The evaluation after the last step is repeated.
        assert_eq!(read(1, 7), [step.clone()]);
        let val = ValidationPoint { loss: Some(0.5), top1: Some(0.75) };
        assert_eq!(read(2, 0), [step, CurvePoint::Epoch { epoch: 1, val }]);
        let train = TrainPoint { loss: None, top1: None, images_per_second: None, waiting: None };
        let not_finite = CurvePoint::Step { epoch: 2, step: 7, learning_rate: 0.001, train };
        assert_eq!(read(2, 7)[2..], [not_finite]);
    }
}
