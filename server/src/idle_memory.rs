//! Memory that a burst leaves behind. glibc keeps what was freed for the next one, in an arena for each thread: good while large
//! photos come, whose buffers the system would have to clear again each time, and hundreds of megabytes when they have gone.

use crate::decoding::Decoding;
use std::convert::Infallible;
use std::time::Duration;

/// How long nothing was decoded before it is given back.
const IDLE: Duration = Duration::from_secs(5);

/// Gives it back to the system whenever decoding has paused, for as long as the server runs.
pub async fn give_back(decoding: &Decoding) -> Infallible {
    let mut kept = false;
    loop {
        tokio::time::sleep(IDLE).await;
        let has_worked = decoding.has_worked();
        if kept && !has_worked {
            // It takes milliseconds.
            let _ = tokio::task::spawn_blocking(trim).await;
        }
        kept = has_worked;
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: it touches nothing but what is free already.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
