//! Optimisation of a network: forward and backward pass, loss, optimiser, and everything else that changes the weights.

mod burn_network;
mod cpu_network;
mod cpu_optimiser;
mod cross_entropy;
mod deferred_metrics;
mod ema;
#[cfg(test)]
mod golden;
#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod gpu;
mod gradients;
mod learner;
mod loss_scale;
mod metrics;
mod mixing;
mod network_tensors;
mod optimiser;
mod timing;
mod trainable_network;
mod training_loss;

pub use deferred_metrics::DeferredMetrics;
pub use learner::{Learner, LearnerState, NOT_FINITE, StepOutcome, precision_warning};
pub use loss_scale::LossScale;
pub use metrics::{StepMetrics, class_rank};
pub use mixing::{Mixing, MixingPlan};
pub use timing::{OperationTiming, StepBenchmark, StepTiming};
pub use trainable_network::LearnerInput;
