//! Handlers: one route a file.

pub mod docs;
pub mod health;
pub mod metrics;
pub mod models;
pub mod page;
pub mod predict;
pub mod v2;
pub mod weights;
