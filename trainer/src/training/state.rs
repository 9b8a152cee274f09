//! The state of a training run in one file, from which the run resumes bit-identically.

use crate::learning::{LearnerState, LossScale, StepMetrics};
use anyhow::{Context, Result, bail};
use model::checkpoint::{Metadata, write_atomically};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A training run between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    pub position: TrainingPosition,
    /// Metadata of the checkpoints that the run saves.
    pub metadata: Metadata,
    pub learner: LearnerState,
}

/// Position of a training run, with the metrics up to there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingPosition {
    /// Current epoch, counted from 1.
    pub epoch: usize,
    /// Completed steps of the epoch. After the last one, the epoch's evaluation is still to be done.
    pub step: usize,
    /// Sums of the metrics of these steps.
    #[serde(rename = "found")]
    pub metrics: StepMetrics,
    /// Duration of these steps.
    pub seconds: f64,
    /// Files that could not be decoded, in all epochs so far.
    pub skipped: BTreeSet<String>,
    /// The best of the completed epochs.
    pub best: Option<BestEpoch>,
}

impl TrainingPosition {
    /// Returns whether no step was completed.
    pub fn is_before_first_step(&self) -> bool {
        self.epoch <= 1 && self.step == 0
    }
}

/// The epoch with the best validation metrics.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    pub epoch: usize,
    pub top1: f64,
    pub loss: f64,
}

impl TrainingPosition {
    /// Returns whether a record of `metrics.jsonl` describes steps, or with no `step` an epoch, before this position.
    pub fn includes(&self, epoch: usize, step: Option<usize>) -> bool {
        epoch < self.epoch || (epoch == self.epoch && step.is_some_and(|step| step <= self.step))
    }
}

/// The part of the state that is not stored as tensors.
#[derive(Serialize, Deserialize)]
struct StateHeader {
    #[serde(rename = "standing")]
    position: TrainingPosition,
    metadata: Metadata,
    loss_scale: Option<LossScale>,
    optimiser_steps: usize,
}

/// Key of the header in the file's `__metadata__`.
const KEY: &str = "shortcut-training";
/// Names and prefixes of the tensors.
const NETWORK: &str = "network.";
const AVERAGE: &str = "average.";
const OPTIMISER: &str = "optimiser";

impl TrainingState {
    /// Writes a safetensors file: the network and its average with torchvision's names, the optimiser in Burn's format.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let LearnerState { network, ema, optimiser, loss_scale, steps } = &self.learner;
        let mut tensors: BTreeMap<String, (Dtype, Vec<u8>)> = BTreeMap::new();
        let networks = network.iter().map(|entry| (NETWORK, entry));
        for (prefix, (name, values)) in networks.chain(ema.iter().flatten().map(|entry| (AVERAGE, entry))) {
            let little_endian = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(format!("{prefix}{name}"), (Dtype::F32, little_endian));
        }
        tensors.insert(OPTIMISER.to_owned(), (Dtype::U8, optimiser.clone()));
        let mut views = Vec::new();
        for (name, (dtype, bytes)) in &tensors {
            let size = if *dtype == Dtype::F32 { 4 } else { 1 };
            views.push((name, TensorView::new(*dtype, vec![bytes.len() / size], bytes)?));
        }
        let header = StateHeader {
            position: self.position.clone(),
            metadata: self.metadata.clone(),
            loss_scale: *loss_scale,
            optimiser_steps: *steps,
        };
        let header = HashMap::from([(KEY.to_owned(), serde_json::to_string(&header)?)]);
        let file = serialize(views, Some(header))?;
        write_atomically(path, &file).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a file written by [`TrainingState::save`].
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not a training state.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        TrainingState::from_bytes(&bytes).with_context(|| format!("{} is not a training state", path.display()))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header: StateHeader = serde_json::from_str(header.context("header is missing")?)?;
        let (mut network, mut ema, mut optimiser) = (BTreeMap::new(), BTreeMap::new(), None);
        for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
            let f32s = || view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if let Some(name) = name.strip_prefix(NETWORK) {
                network.insert(name.to_owned(), f32s());
            } else if let Some(name) = name.strip_prefix(AVERAGE) {
                ema.insert(name.to_owned(), f32s());
            } else if name == OPTIMISER {
                optimiser = Some(view.data().to_vec());
            } else {
                bail!("unknown tensor {name}");
            }
        }
        let learner = LearnerState {
            network,
            ema: (!ema.is_empty()).then_some(ema),
            optimiser: optimiser.context("optimiser is missing")?,
            loss_scale: header.loss_scale,
            steps: header.optimiser_steps,
        };
        Ok(TrainingState { position: header.position, metadata: header.metadata, learner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;
    use serde_json::json;

    /// Programs of other versions write and read these keys.
    #[test]
    fn keys_of_the_header_are_stable() {
        let metadata = Metadata::new(Architecture::new("resnet18", 2).unwrap());
        let written = json!({
            "standing": {
                "epoch": 2,
                "step": 7,
                "found": { "loss": 1.5, "weight": 8.0, "correct": 3.0, "images": 8.0 },
                "seconds": 0.25,
                "skipped": ["broken.jpg"],
                "best": { "epoch": 1, "top1": 0.5, "loss": 0.75 },
            },
            "metadata": metadata,
            "loss_scale": { "factor": 1024.0, "good": 3 },
            "optimiser_steps": 17,
        });
        let header: StateHeader = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&header).unwrap(), written);
        assert_eq!([KEY, NETWORK, AVERAGE, OPTIMISER], ["shortcut-training", "network.", "average.", "optimiser"]);
    }

    #[test]
    fn states_survive_a_round_trip_and_truncated_files_are_rejected() {
        let metrics = StepMetrics { loss: 1.5, weight: 8.0, correct: 3.0, images: 8.0, unlabelled: 2.0 };
        let best = Some(BestEpoch { epoch: 1, top1: 0.1 + 0.2, loss: 1.0 / 3.0 });
        let tensors = |value: f32| BTreeMap::from([("fc.bias".to_owned(), vec![value, f32::MIN_POSITIVE])]);
        let state = TrainingState {
            position: TrainingPosition {
                epoch: 2,
                step: 7,
                metrics,
                seconds: 0.3,
                skipped: BTreeSet::from(["broken.jpg".to_owned()]),
                best,
            },
            metadata: Metadata::new(Architecture::new("resnet18", 2).unwrap()),
            learner: LearnerState {
                network: tensors(1.0),
                ema: Some(tensors(0.1)),
                optimiser: vec![1, 2, 3],
                loss_scale: Some(LossScale::default()),
                steps: 17,
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.state");
        state.save(&path).unwrap();
        assert_eq!(TrainingState::open(&path).unwrap(), state);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = format!("{:#}", TrainingState::open(&path).unwrap_err());
            assert!(error.contains("one.state is not a training state"), "{error}");
        }
    }
}
