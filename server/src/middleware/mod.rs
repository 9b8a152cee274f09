//! What is the same for many routes: one concern a file.

pub mod access;
pub mod deadline;
pub mod headers;
pub mod observe;
pub mod unread;
