//! From weights to better ones.

mod average;
mod collective;
mod devices;
mod evaluation;
mod features;
#[cfg(test)]
mod golden;
#[cfg(all(test, feature = "wgpu"))]
mod gpu;
mod gradients;
mod interrupt;
mod launch;
mod learner;
mod loss;
mod loss_scale;
mod mixing;
mod optimiser;
mod progress;
mod replica;
mod report;
mod run;
mod schedule;
mod start;
mod state;
mod tally;
mod timing;
mod together;

mod weights;

pub use devices::replica_devices;
pub use evaluation::count;
pub use interrupt::Interrupt;
pub use launch::Training;
pub use run::{BEST, Data, Run};
pub use start::{open, start};
pub use state::State;
pub use timing::{Timing, time};
