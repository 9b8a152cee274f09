//! A value that several tests share, because it is slow to create: a running server.

use anyhow::{Result, anyhow};
use std::sync::OnceLock;

/// A value that is created on first use.
pub struct Shared<T> {
    create: fn() -> Result<T>,
    value: OnceLock<Result<T>>,
}

impl<T> Shared<T> {
    pub fn new(create: fn() -> Result<T>) -> Self {
        Shared { create, value: OnceLock::new() }
    }

    /// Returns the value, or the error with which its creation failed.
    pub fn get(&self) -> Result<&T> {
        self.value.get_or_init(self.create).as_ref().map_err(|error| anyhow!("{error:#}"))
    }
}
