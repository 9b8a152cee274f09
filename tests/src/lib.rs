//! What the tests that cross crates share: where things lie, and a running server.

pub mod agreement;
pub mod data;
pub mod server;
pub mod workspace;
