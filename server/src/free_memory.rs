//! Memory that is free, given back to the system now and then. glibc keeps what was freed, up to blocks of 32 MB, in an arena for
//! each thread: good while large photos come, whose buffers the system would have to clear again each time (a third of what
//! decoding takes), but photos that have gone and models that were replaced leave a gigabyte behind.

use std::convert::Infallible;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);

/// For as long as the server runs.
pub async fn give_back() -> Infallible {
    loop {
        tokio::time::sleep(EVERY).await;
        let begun = Instant::now();
        let _ = tokio::task::spawn_blocking(trim).await;
        tracing::debug!("free memory was given back in {:?}", begun.elapsed());
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: it touches nothing but what is free already.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
