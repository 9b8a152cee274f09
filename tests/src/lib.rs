//! Shared code of the tests that span crates: paths, optional data, comparisons, and running servers.

pub mod agreement;
pub mod data;
pub mod server;
pub mod shared;
pub mod workspace;
