//! Replicas side by side, each on a thread of its own, that end together.

use super::collective::{Collective, ReplicaLost};
use anyhow::{Error, Result, anyhow};
use std::any::Any;
use std::thread::{self, ScopedJoinHandle};

/// Runs `replica` for each of the collectives, with its rank, until all have ended.
///
/// # Errors
/// What the first of them says that ended by itself, and not because it missed another; a panic is an error too.
pub fn run_replicas(
    collectives: Vec<Box<dyn Collective>>,
    replica: impl Fn(usize, Box<dyn Collective>) -> Result<()> + Sync,
) -> Result<()> {
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let replica = &replica;
        // A panic takes the collective with it, so that nobody waits for the replica.
        let start = |(rank, collective)| scope.spawn(move || replica(rank, collective));
        let threads: Vec<_> = collectives.into_iter().enumerate().map(start).collect();
        let join =
            |thread: ScopedJoinHandle<Result<()>>| thread.join().unwrap_or_else(|panic| Err(panic_error(&*panic)));
        threads.into_iter().map(join).collect()
    });
    let errors = results.into_iter().filter_map(Result::err);
    let (lost, causes): (Vec<_>, Vec<_>) = errors.partition(|error: &Error| error.is::<ReplicaLost>());
    causes.into_iter().chain(lost).next().map_or(Ok(()), Err)
}

fn panic_error(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("a replica failed: {}", text.unwrap_or("nothing is known"))
}

#[cfg(test)]
mod tests {
    use super::super::collective::HostCollective;
    use super::*;
    use std::time::{Duration, Instant};

    /// Three replicas that would go on for ever, of which one does not.
    fn ended_by(fail: impl Fn() -> Result<()> + Sync) -> String {
        let collectives = HostCollective::new(3).into_iter().map(|one| Box::new(one) as _).collect();
        let start = Instant::now();
        let result = run_replicas(collectives, |rank, collective| {
            for step in 0.. {
                if (rank, step) == (2, 10) {
                    fail()?;
                }
                collective.all_reduce(Vec::new(), &[1.0])?;
            }
            Ok(())
        });
        assert!(start.elapsed() < Duration::from_secs(5), "nobody hangs");
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_replica_that_fails_ends_all_with_its_own_error() {
        assert_eq!(ended_by(|| Err(anyhow!("the disk is full"))), "the disk is full");
        assert_eq!(ended_by(|| panic!("device {}", 3)), "a replica failed: device 3");
    }
}
