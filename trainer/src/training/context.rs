//! Configuration and resources that all replicas of a training run share.

use super::features::CachedFeatures;
use super::interrupt::Interrupt;
use super::reporter::Reporter;
use super::save_request::SaveRequest;
use super::schedule::LearningRate;
use crate::data::{Dataset, LoaderThreads};
use crate::distillation::{LogitFile, Teacher};
use crate::learning::Mixing;
use crate::recipe::Recipe;
use model::checkpoint::Metadata;
use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

/// Configuration and resources that all replicas of a run share.
pub struct TrainingContext {
    pub recipe: Recipe,
    pub dataset: Dataset,
    /// Metadata of every checkpoint, except its metrics.
    pub metadata: Metadata,
    pub learning_rate: LearningRate,
    pub mixing: Option<Mixing>,
    pub steps_per_epoch: usize,
    /// Cached features, if only the classifier is trained.
    pub features: Option<CachedFeatures>,
    /// Teacher of the network.
    pub teacher: Option<Teacher>,
    /// Logits of the teacher, if images are the same in all epochs.
    pub teacher_logits: Option<LogitFile>,
    pub threads: LoaderThreads,
    pub interrupt: Interrupt,
    pub save_request: SaveRequest,
    pub reporter: Mutex<Reporter>,
    /// Interval between two states within an epoch.
    pub save_every: Duration,
}

impl TrainingContext {
    pub fn reporter(&self) -> MutexGuard<'_, Reporter> {
        self.reporter.lock()
    }
}
