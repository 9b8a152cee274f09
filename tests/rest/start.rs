//! Startup time of the server.

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::server::Server;

/// Maximum time from start to ready, with a ResNet-18 on the CPU.
const LIMIT: Duration = Duration::from_secs(1);

/// Number of attempts, because the machine may be busy.
const ATTEMPTS: usize = 10;

pub fn startup_time() -> Result<()> {
    let mut durations = Vec::new();
    while durations.len() < ATTEMPTS {
        let start = Instant::now();
        let _server = Server::start_small()?;
        durations.push(start.elapsed());
        if durations.last() < Some(&LIMIT) {
            return Ok(());
        }
    }
    ensure!(false, "not ready within {LIMIT:?}: {durations:?}");
    Ok(())
}
