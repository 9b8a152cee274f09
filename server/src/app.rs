//! What the handlers share.

use crate::body::InFlight;
use crate::decoding::Decoding;
use crate::metrics::Metrics;
use crate::middleware::access::Access;
use crate::photos::UploadLimits;
use crate::registry::Registry;
use crate::settings::Settings;
use anyhow::Result;
use model::preprocess::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct App {
    pub registry: Arc<Registry>,
    pub decoding: Decoding,
    pub in_flight: InFlight,
    pub upload_limits: UploadLimits,
    pub access: Access,
    pub cors_origins: Vec<String>,
    /// The most that a request may take.
    pub timeout: Duration,
    /// The most that a body may pause.
    pub stall_timeout: Duration,
    pub metrics: Arc<Metrics>,
    stopping: AtomicBool,
}

impl App {
    pub fn new(settings: &Settings, registry: Registry, metrics: Arc<Metrics>) -> Result<Self> {
        let upload_limits = UploadLimits { bytes: settings.max_body.get(), count: settings.photos_at_most() };
        let limits = Limits {
            bytes: upload_limits.bytes,
            pixels: u64::from(settings.max_megapixels.get()) * 1_000_000,
            memory: settings.max_decode_memory.get() as u64,
        };
        Ok(App {
            registry: Arc::new(registry),
            decoding: Decoding::start(settings.decode_threads, settings.decode_queue, limits, metrics.clone())?,
            in_flight: InFlight::new(settings.max_in_flight.get()),
            upload_limits,
            access: Access { api_keys: settings.api_keys.clone(), admin_token: settings.admin_token.clone() },
            cors_origins: settings.cors_origins.clone(),
            timeout: settings.timeout,
            stall_timeout: settings.stall_timeout,
            metrics,
            stopping: AtomicBool::new(false),
        })
    }

    /// From now on the server says that it is not ready, so that nobody sends it more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
