//! Middleware for many routes, with one concern per file.

pub mod access;
pub mod deadline;
pub mod drain_body;
pub mod hold_memory;
pub mod limit_compressed;
pub mod observe;
pub mod request_id;
