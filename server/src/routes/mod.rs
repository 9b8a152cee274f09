//! Handlers: one route, or a few similar ones, per file.

pub mod docs;
pub mod health;
pub mod metrics;
pub mod models;
pub mod page;
mod path;
pub mod predict;
pub mod v2;
pub mod weights;
