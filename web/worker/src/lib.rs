//! Classifies photos in a web worker: downloads the weights, decodes, preprocesses, runs an engine and ranks the
//! classes, all off the page's main thread.
//!
//! A worker serves one model. A page that switches models terminates its worker and starts another one, which stops
//! any work in progress and frees the memory, since the memory of a wasm module never shrinks. Without the feature
//! `classifier` the crate consists of [`message`] alone, which is all a page needs to talk to a worker.

pub mod message;

#[cfg(feature = "classifier")]
mod adapter;
#[cfg(feature = "classifier")]
mod browser_decode;
#[cfg(feature = "classifier")]
mod cache_store;
#[cfg(feature = "classifier")]
mod engine_selection;
#[cfg(feature = "classifier")]
mod engines;
#[cfg(feature = "classifier")]
mod scope;
#[cfg(feature = "classifier")]
mod service;
#[cfg(feature = "classifier")]
mod timeout;
#[cfg(feature = "classifier")]
mod webgpu_loader;
#[cfg(feature = "classifier")]
mod webgpu_trial;
#[cfg(feature = "classifier")]
mod weights;

#[cfg(feature = "classifier")]
pub use service::start;
