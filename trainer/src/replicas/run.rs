//! Runs replicas in parallel, one thread each, and ends all of them if one fails.

use super::collective::{Collective, ReplicaLost};
use anyhow::{Error, Result, anyhow};
use std::any::Any;
use std::thread::{self, ScopedJoinHandle};

/// Runs `replica` for each of the collectives on a thread of its own, with its rank, and waits for all of them.
///
/// # Errors
/// Returns the error of the replica with the lowest rank that failed. Errors that only report the loss of another
/// replica are returned only if there is no other. A panic counts as an error.
pub fn run_replicas(
    collectives: Vec<Box<dyn Collective>>,
    replica: impl Fn(usize, Box<dyn Collective>) -> Result<()> + Sync,
) -> Result<()> {
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let replica = &replica;
        // A panic drops the collective, so that the other replicas do not wait for this one.
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
    anyhow!("a replica panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::super::collective::HostCollective;
    use super::*;
    use std::time::{Duration, Instant};

    /// Runs three replicas with endless loops of which one fails, and returns the error.
    fn error_of_failing_replica(fail: impl Fn() -> Result<()> + Sync) -> String {
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
        assert!(start.elapsed() < Duration::from_secs(5), "no replica may hang");
        result.unwrap_err().to_string()
    }

    #[test]
    fn failing_replica_ends_all_and_its_error_is_returned() {
        assert_eq!(error_of_failing_replica(|| Err(anyhow!("the disk is full"))), "the disk is full");
        assert_eq!(error_of_failing_replica(|| panic!("device {}", 3)), "a replica panicked: device 3");
    }
}
