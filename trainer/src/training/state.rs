//! Where a training is, in one file, from which it goes on as if it had never stopped.

use crate::learning::LossScale;
use crate::learning::{StepMetrics, LearnerState};
use anyhow::{Context, Result, anyhow};
use model::checkpoint::{Metadata, write_atomically};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A training between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub standing: Standing,
    /// Of the checkpoints that come out.
    pub metadata: Metadata,
    pub learner: LearnerState,
}

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// From 1.
    pub epoch: usize,
    /// Steps of the epoch that are done; after the last one, it is still to be validated.
    pub step: usize,
    /// What these steps found, and how long they took.
    pub found: StepMetrics,
    pub seconds: f64,
    /// What could not be decoded so far, in this epoch and before.
    pub skipped: BTreeSet<String>,
    /// Of the epochs before this one.
    pub best: Option<Best>,
}

/// The epoch that validated best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: usize,
    pub top1: f64,
    pub loss: f64,
}

/// What stands beside the tensors.
#[derive(Serialize, Deserialize)]
struct Document {
    standing: Standing,
    metadata: Metadata,
    loss_scale: Option<LossScale>,
    optimiser_steps: usize,
}

/// The key of the document in the file's `__metadata__`.
const KEY: &str = "shortcut-training";
const NETWORK: &str = "network.";
const AVERAGE: &str = "average.";
const OPTIMISER: &str = "optimiser";

impl State {
    /// As a safetensors file: the network and its average by torchvision's names, the optimiser as Burn writes it down.
    ///
    /// # Errors
    /// If the disk is full and the like.
    pub fn save(&self, path: &Path) -> Result<()> {
        let LearnerState { network, average, optimiser, scale, steps } = &self.learner;
        let mut bytes: BTreeMap<String, (Dtype, Vec<u8>)> = BTreeMap::new();
        let tensors = network.iter().map(|entry| (NETWORK, entry));
        for (prefix, (name, values)) in tensors.chain(average.iter().flatten().map(|entry| (AVERAGE, entry))) {
            let little_endian = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            bytes.insert(format!("{prefix}{name}"), (Dtype::F32, little_endian));
        }
        bytes.insert(OPTIMISER.to_owned(), (Dtype::U8, optimiser.clone()));
        let mut views = Vec::new();
        for (name, (dtype, bytes)) in &bytes {
            let size = if *dtype == Dtype::F32 { 4 } else { 1 };
            views.push((name, TensorView::new(*dtype, vec![bytes.len() / size], bytes)?));
        }
        let document = Document {
            standing: self.standing.clone(),
            metadata: self.metadata.clone(),
            loss_scale: *scale,
            optimiser_steps: *steps,
        };
        let document = HashMap::from([(KEY.to_owned(), serde_json::to_string(&document)?)]);
        let file = serialize(views, Some(document))?;
        write_atomically(path, &file).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// # Errors
    /// If it is no file of [`State::save`].
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        State::from_bytes(&bytes).with_context(|| format!("{} is no state of a training", path.display()))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let document = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let document: Document = serde_json::from_str(document.context("nothing says how far it is")?)?;
        let (mut network, mut average, mut optimiser) = (BTreeMap::new(), BTreeMap::new(), None);
        for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
            let f32s = || view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if let Some(name) = name.strip_prefix(NETWORK) {
                network.insert(name.to_owned(), f32s());
            } else if let Some(name) = name.strip_prefix(AVERAGE) {
                average.insert(name.to_owned(), f32s());
            } else if name == OPTIMISER {
                optimiser = Some(view.data().to_vec());
            } else {
                return Err(anyhow!("{name} means nothing"));
            }
        }
        let learner = LearnerState {
            network,
            average: (!average.is_empty()).then_some(average),
            optimiser: optimiser.context("the optimiser is missing")?,
            scale: document.loss_scale,
            steps: document.optimiser_steps,
        };
        Ok(State { standing: document.standing, metadata: document.metadata, learner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::architecture::Architecture;

    #[test]
    fn states_come_back_as_they_were() {
        let found = StepMetrics { loss: 1.5, weight: 8.0, correct: 3.0, images: 8.0 };
        let best = Some(Best { epoch: 1, top1: 0.1 + 0.2, loss: 1.0 / 3.0 });
        let tensors = |value: f32| BTreeMap::from([("fc.bias".to_owned(), vec![value, f32::MIN_POSITIVE])]);
        let state = State {
            standing: Standing {
                epoch: 2,
                step: 7,
                found,
                seconds: 0.3,
                skipped: BTreeSet::from(["broken.jpg".to_owned()]),
                best,
            },
            metadata: Metadata::new(Architecture::new("resnet18", 2).unwrap()),
            learner: LearnerState {
                network: tensors(1.0),
                average: Some(tensors(0.1)),
                optimiser: vec![1, 2, 3],
                scale: Some(LossScale::default()),
                steps: 17,
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.state");
        state.save(&path).unwrap();
        assert_eq!(State::open(&path).unwrap(), state);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = format!("{:#}", State::open(&path).unwrap_err());
            assert!(error.contains("one.state is no state of a training"), "{error}");
        }
    }
}
