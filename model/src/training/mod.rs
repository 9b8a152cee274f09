//! Training on the CPU: forward and backward pass of a network in f32, with the kernels of the CPU engine.
//!
//! Activations have the layout of the CPU engine, [`blocked_shape`](crate::engine::cpu). The gradient of a convolution's
//! input is a convolution, and is computed by the same kernels. Results are bit-identical for any number of threads.

mod algorithm_choice;
mod batch_norm;
mod classifier;
mod convolution;
mod layers;
mod memory;
mod network;
mod pooling;
mod profile;
mod shaped_network;
mod tensor_layout;
mod value;
mod weight_gradient;

pub use network::{TrainingNetwork, TrainingOptions};
pub use profile::{Operation, TrainingProfile};
pub use tensor_layout::{TensorLayout, TensorRange};
