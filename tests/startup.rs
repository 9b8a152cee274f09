//! Startup time of the server. A test program of its own, because it runs while nothing else does.

use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::server::Server;

/// Maximum time from start to ready, with a ResNet-18 on the CPU.
const LIMIT: Duration = Duration::from_secs(1);

/// Number of attempts, because the machine may be busy.
const ATTEMPTS: usize = 5;

#[test]
fn server_is_ready_within_a_second() -> Result<()> {
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
