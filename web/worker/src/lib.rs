//! The classifier of a page: weights, decoding, preprocessing, engine and prediction, off the page's thread.
//!
//! One worker serves one model: a page that changes its model ends the worker and starts another, which gives the
//! memory back (a wasm module's only grows) and stops whatever was under way.
//! Without the feature `classifier` only [`message`] is left, which is what a page needs to talk to a worker.

pub mod message;

#[cfg(feature = "classifier")]
mod adapter;
#[cfg(feature = "classifier")]
mod auto;
#[cfg(feature = "classifier")]
mod browser_decode;
#[cfg(feature = "classifier")]
mod clock;
#[cfg(feature = "classifier")]
mod early;
#[cfg(feature = "classifier")]
mod engines;
#[cfg(feature = "classifier")]
mod scope;
#[cfg(feature = "classifier")]
mod service;
#[cfg(feature = "classifier")]
mod shelf;
#[cfg(feature = "classifier")]
mod verdict;
#[cfg(feature = "classifier")]
mod weights;

#[cfg(feature = "classifier")]
pub use service::start;
