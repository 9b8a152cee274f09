//! Profile of a run: the time and the amount of work of each operation.

use super::Precision;
use std::time::Duration;

/// The profile of one operation in one run.
#[derive(Clone, Debug)]
pub struct OperationProfile {
    /// Name of the operation, such as `layer1.0.conv1`, `maxpool`, `avgpool` or `fc`.
    pub name: String,
    /// Algorithm and kernel, such as `winograd 4x4`, `direct 8x8` or `pool`.
    pub algorithm: String,
    /// Precision of the factors that were multiplied.
    pub precision: Precision,
    pub time: Duration,
    /// Number of multiply-adds of the operation by its definition.
    pub multiply_adds: u64,
    /// Number of multiply-adds that were executed, without those of Winograd transforms. The CPU engine includes padded
    /// channels.
    pub executed_multiply_adds: u64,
    /// Size of the packed weights, in bytes. Each weight is read once if the caches are large enough.
    pub weight_bytes: u64,
    /// Number of bytes that the operation reads and writes, each counted once. `None` if the engine does not report it.
    pub moved_bytes: Option<u64>,
}

impl OperationProfile {
    /// Adds the profile of another part of the same operation, or of the same operation for further images.
    pub(super) fn add(&mut self, other: &OperationProfile) {
        self.time += other.time;
        self.multiply_adds += other.multiply_adds;
        self.executed_multiply_adds += other.executed_multiply_adds;
        self.weight_bytes = self.weight_bytes.max(other.weight_bytes);
        self.moved_bytes = self.moved_bytes.zip(other.moved_bytes).map(|(one, other)| one + other);
    }
}
