//! How soon the server is there.

use crate::own::{SMALL, checkpoint};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use tests::server::Server;

/// From its start until it is ready, with a ResNet-18 on the CPU.
const LIMIT: Duration = Duration::from_secs(1);

/// The machine may be busy with something else meanwhile.
const TRIES: usize = 5;

pub fn ready_soon() -> Result<()> {
    let model = format!("{SMALL}={}", checkpoint(SMALL).display());
    let mut took = Vec::new();
    while took.len() < TRIES {
        let begun = Instant::now();
        let _server = Server::start_with(["--model", &model])?;
        took.push(begun.elapsed());
        if took.last() < Some(&LIMIT) {
            return Ok(());
        }
    }
    ensure!(false, "it takes more than {LIMIT:?} to be ready: {took:?}");
    Ok(())
}
