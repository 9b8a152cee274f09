//! The time that each kind of operation takes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// A kind of operation of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Input,
    PackWeights,
    Convolution,
    Norm,
    Pool,
    Classifier,
    InputGradient,
    WeightGradient,
    NormGradient,
    PoolGradient,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Input => "normalisation of the photos",
            Operation::PackWeights => "packing of the weights",
            Operation::Convolution => "convolutions",
            Operation::Norm => "batch norms, shortcuts and ReLUs",
            Operation::Pool => "max-pool",
            Operation::Classifier => "classifier",
            Operation::InputGradient => "gradients of the convolutions' inputs",
            Operation::WeightGradient => "gradients of the convolutions' weights",
            Operation::NormGradient => "gradients of batch norms, shortcuts and ReLUs",
            Operation::PoolGradient => "gradients of the pools",
        })
    }
}

/// Total time of each kind of operation.
#[derive(Clone, Debug, Default)]
pub struct TrainingProfile(BTreeMap<Operation, Duration>);

impl TrainingProfile {
    /// Adds the time since `start`.
    pub(super) fn add(&mut self, operation: Operation, start: Instant) {
        *self.0.entry(operation).or_default() += start.elapsed();
    }

    /// Iterates over the operations that were executed, each with its total time.
    pub fn totals(&self) -> impl Iterator<Item = (Operation, Duration)> {
        self.0.iter().map(|(&operation, &time)| (operation, time))
    }
}
