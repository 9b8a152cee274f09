//! The memory budget of all requests in flight: their bodies, and what is decoded from them.
//!
//! A [`Reservation`] releases its bytes when it is dropped. Reserving never waits: if the budget is exhausted, the
//! request is rejected at once.

use crate::error::ApiError;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Memory shared by all requests, in bytes.
#[derive(Clone)]
pub struct MemoryBudget {
    /// One permit per byte.
    available: Arc<Semaphore>,
    limit: usize,
}

/// Bytes reserved from a [`MemoryBudget`]; released on drop.
#[derive(Debug)]
pub struct Reservation {
    available: Arc<Semaphore>,
    bytes: usize,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        MemoryBudget { available: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Number of bytes that are reserved at the moment.
    pub fn reserved(&self) -> usize {
        self.limit - self.available.available_permits()
    }

    /// Reserves `bytes`.
    ///
    /// # Errors
    /// Returns 503 at once if the budget has fewer bytes left.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, ApiError> {
        let mut reservation = self.empty_reservation();
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Returns a reservation of zero bytes, to grow or to merge others into.
    pub fn empty_reservation(&self) -> Reservation {
        Reservation { available: self.available.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Reserves `bytes` more.
    ///
    /// # Errors
    /// Returns 503 at once if the budget has fewer bytes left.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let exhausted = || ApiError::overloaded("memory limit for requests in flight reached; retry later");
        let permits = u32::try_from(bytes).map_err(|_| exhausted())?;
        self.available.try_acquire_many(permits).map_err(|_| exhausted())?.forget();
        self.bytes += bytes;
        Ok(())
    }

    /// Adds the bytes of `other`, which must come from the same budget.
    pub fn merge(&mut self, mut other: Reservation) {
        debug_assert!(Arc::ptr_eq(&self.available, &other.available), "reservations of different budgets");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.available.add_permits(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_reservations_are_released_together() {
        let budget = MemoryBudget::new(10);
        let mut reservation = budget.empty_reservation();
        reservation.merge(budget.reserve(3).unwrap());
        reservation.merge(budget.reserve(4).unwrap());
        assert_eq!(budget.reserved(), 7);
        assert_eq!(budget.reserve(4).unwrap_err().status, 503);
        drop(reservation);
        assert_eq!(budget.reserved(), 0);
        assert!(budget.reserve(10).is_ok());
    }
}
