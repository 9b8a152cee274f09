//! The request to save the state after the current step, without stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flag that is raised when the user asks to save the state. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SaveRequest(Arc<AtomicBool>);

impl SaveRequest {
    /// Asks to save the state.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the state is to be saved.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lowers the flag, and returns whether it was raised.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
