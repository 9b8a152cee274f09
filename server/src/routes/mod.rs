//! One handler a file.

pub mod health;
pub mod models;
pub mod page;
pub mod predict;
pub mod weights;
