//! The Open Inference Protocol, version 2, over HTTP, as spoken by Triton, KServe and their clients, with Triton's
//! extensions for binary tensor data, classification, model configuration, statistics and the model repository.

pub mod error;
pub mod health;
pub mod infer;
pub mod metadata;
mod numbers;
pub mod repository;
pub mod statistics;
pub mod tensors;
