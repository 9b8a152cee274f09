//! Errors of preparing and running a plan.

use super::device::{Device, DeviceError};
use super::precision::Precision;

/// Error of preparing or running a plan.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("precision {0} requires {requirement}", requirement = .0.requirement())]
    UnsupportedPrecision(Precision),
    #[error("invalid input: {0}")]
    InvalidInput(String),
    #[error("device {device} failed: {reason}")]
    Failed { device: Device, reason: String },
    /// Either the device has failed, or the input contains values too large to compute with.
    #[error("device {device} computed a logit of {value}, which is not finite")]
    NotFinite { device: Device, value: f32 },
    /// The GPU was lost. Every further run of this engine fails too, but a new engine can be prepared.
    #[error("device {device} was lost: {reason}")]
    Lost { device: Device, reason: String },
}
