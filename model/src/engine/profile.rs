//! What a run's time goes to.

use super::Precision;
use std::time::Duration;

/// One operation in one run.
#[derive(Clone, Debug)]
pub struct OperationProfile {
    /// `layer1.0.conv1`, `maxpool`, `avgpool`, `fc`
    pub name: String,
    /// How it was computed: `winograd 4x4`, `direct 8x8`, `pool`
    pub algorithm: String,
    /// What its products were of.
    pub precision: Precision,
    pub time: Duration,
    /// Multiply-adds of the operation as it is defined.
    pub multiply_adds: u64,
    /// Multiply-adds that were carried out between its transforms; the CPU engine counts padded channels too.
    pub products: u64,
    /// Bytes of packed weights, each read once if the caches are large enough.
    pub weight_bytes: u64,
    /// Bytes of all that it reads and writes, each counted once. `None` if the engine does not tell.
    pub moved_bytes: Option<u64>,
}

impl OperationProfile {
    /// A further part of the same operation, or it on further images.
    pub(super) fn add(&mut self, other: &OperationProfile) {
        self.time += other.time;
        self.multiply_adds += other.multiply_adds;
        self.products += other.products;
        self.weight_bytes = self.weight_bytes.max(other.weight_bytes);
        self.moved_bytes = self.moved_bytes.zip(other.moved_bytes).map(|(one, other)| one + other);
    }
}
