//! How a network learns: what a step computes, and what changes the weights.

mod average;
mod found;
#[cfg(test)]
mod golden;
#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod gpu;
mod gradients;
mod learner;
mod loss;
mod loss_scale;
mod mixing;
mod optimiser;
mod rank;
mod timing;
mod weights;

pub use found::Found;
pub use learner::{Inputs, Learner, Memory, Update};
pub use loss_scale::LossScale;
pub use mixing::Mixing;
pub use rank::rank;
pub use timing::{Timing, time};
