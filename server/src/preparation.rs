//! Decoding and cropping, before the queue and beside the engines: at most as many photos at a time as there are cores, so
//! that slow or hostile images can neither starve the async threads nor take more memory than that many decodes.

use crate::error::ApiError;
use bytes::Bytes;
use model::checkpoint::Metadata;
use model::classifier::Prepared;
use model::preprocess::Limits;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub struct Preparation {
    slots: Arc<Semaphore>,
    limits: Limits,
}

impl Preparation {
    pub fn new(limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Preparation { slots: Arc::new(Semaphore::new(cores)), limits }
    }

    /// What the network of these metadata sees of a photo.
    pub async fn prepare(&self, photo: Bytes, metadata: Arc<Metadata>) -> Result<Prepared, ApiError> {
        let slot = self.slots.clone().acquire_owned().await.expect("nobody closes the semaphore");
        let limits = self.limits;
        let prepare = move || {
            // Kept on the thread, for a client that goes does not stop what has begun.
            let _slot = slot;
            Prepared::from_bytes(&photo, &limits, &metadata)
        };
        Ok(tokio::task::spawn_blocking(prepare).await.map_err(ApiError::internal)??)
    }
}
