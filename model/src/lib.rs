//! Residual networks for image classification, shared by the trainer, the server and the browser.
//!
//! Data flow, the same everywhere: `bytes -> preprocess -> ImageBatch -> Engine -> Logits -> Prediction`.
//! Weights: `Checkpoint -> Plan -> Engine`. [`Classifier`](classifier::Classifier) combines these steps.
//!
//! This crate accesses neither the network nor the DOM. It starts threads only natively: those of the CPU engine, and
//! rayon's global pool, which compiles kernels of the WebGPU engine. The crate compiles natively and to
//! `wasm32-unknown-unknown`. The feature `burn` adds the Burn network and engine, the feature `webgpu` the WebGPU
//! engine, and the feature `onnx` the export and import of ONNX files.

pub mod architecture;
pub mod checkpoint;
pub mod classifier;
pub mod engine;
pub mod explain;
mod large_pages;
#[cfg(feature = "burn")]
pub mod network;
#[cfg(all(feature = "onnx", not(target_arch = "wasm32")))]
pub mod onnx;
pub mod plan;
pub mod prediction;
pub mod preprocess;
pub mod random;
#[cfg(not(target_arch = "wasm32"))]
pub mod torchscript;
#[cfg(not(target_arch = "wasm32"))]
pub mod training;
