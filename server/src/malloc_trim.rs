//! Returns free heap memory to the operating system at regular intervals.
//!
//! glibc keeps freed blocks of up to 32 MB in one arena per thread. While large photos arrive this is an advantage,
//! because the kernel would otherwise have to zero their buffers again each time (a third of the decoding time); but
//! after a load or a model reload, up to a gigabyte would stay allocated.

use std::convert::Infallible;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(5);

/// Runs for as long as the server does.
pub async fn run_periodically() -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let start = Instant::now();
        let _ = tokio::task::spawn_blocking(trim).await;
        tracing::debug!("returned free memory to the system in {:?}", start.elapsed());
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: `malloc_trim` only releases memory that is not allocated.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
