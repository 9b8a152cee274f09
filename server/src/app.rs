//! The state that handlers and middleware share.

use crate::decode_pool::DecodePool;
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::middleware::access::AccessControl;
use crate::page_files::PageFiles;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::upload::UploadLimits;
use anyhow::Result;
use model::preprocess::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct App {
    pub registry: Arc<Registry>,
    pub decode_pool: DecodePool,
    pub memory: MemoryBudget,
    pub upload_limits: UploadLimits,
    pub access: Arc<AccessControl>,
    pub cors_origins: Vec<String>,
    /// Maximum duration of a request.
    pub timeout: Duration,
    /// Maximum pause while a request body is received.
    pub stall_timeout: Duration,
    pub metrics: Arc<Metrics>,
    pub page: PageFiles,
    shutting_down: AtomicBool,
}

impl App {
    pub fn new(settings: &Settings, registry: Registry, metrics: Arc<Metrics>) -> Result<Self> {
        let upload_limits = UploadLimits { bytes: settings.max_body.get(), count: settings.max_photos_per_request() };
        let decode_limits = Limits {
            bytes: upload_limits.bytes,
            pixels: u64::from(settings.max_megapixels.get()) * 1_000_000,
            memory: settings.max_decode_memory.get() as u64,
        };
        Ok(App {
            registry: Arc::new(registry),
            decode_pool: DecodePool::start(
                settings.decode_threads,
                settings.decode_queue,
                decode_limits,
                metrics.clone(),
            )?,
            memory: MemoryBudget::new(settings.max_in_flight.get()),
            upload_limits,
            access: Arc::new(AccessControl {
                api_keys: settings.api_keys.clone(),
                admin_token: settings.admin_token.clone(),
            }),
            cors_origins: settings.cors_origins.clone(),
            timeout: settings.timeout,
            stall_timeout: settings.stall_timeout,
            metrics,
            page: PageFiles::new(settings.page.clone()),
            shutting_down: AtomicBool::new(false),
        })
    }

    /// Reports the server as not ready from now on, so that load balancers send no more requests.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }
}
