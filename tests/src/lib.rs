//! Shared code of the tests that span crates: paths, optional data, comparisons, and a running server.

pub mod agreement;
pub mod data;
pub mod server;
pub mod workspace;
