//! Residual networks for image classification, shared by the trainer, the server and the browser.
//!
//! The way of the data is the same everywhere:
//! `bytes -> preprocess -> ImageBatch -> Engine -> Logits -> Prediction`.
//! The way of the weights: `Checkpoint -> Plan -> Engine`.
//!
//! This crate opens no socket, starts no thread (an engine excepted) and knows nothing of HTTP or the DOM.
//! It compiles natively and to `wasm32-unknown-unknown`; Burn comes with the feature `burn`, the
//! engine for WebGPU with `webgpu`.

pub mod architecture;
pub mod checkpoint;
pub mod classifier;
pub mod engine;
pub mod explain;
mod large_pages;
#[cfg(feature = "burn")]
pub mod network;
pub mod plan;
pub mod prediction;
pub mod preprocess;
pub mod random;
