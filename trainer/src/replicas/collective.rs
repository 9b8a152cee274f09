//! Collective operations between the threads of replicas.

#[cfg(feature = "cuda")]
mod nccl;

#[cfg(feature = "cuda")]
pub use nccl::NcclCollective;

use burn::tensor::{Tensor, TensorData};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// Handle of one replica to the group of all replicas. All replicas must make the same calls in the same order.
///
/// A replica leaves the group by dropping its handle, at the end of a run, on an error or on a panic. Others that wait
/// for it then get [`ReplicaLost`].
pub trait Collective: Send {
    /// Returns the rank of this replica, counted from 0.
    fn rank(&self) -> usize;

    /// Returns the number of replicas.
    fn world_size(&self) -> usize;

    /// Sums tensors and numbers element-wise over all replicas; the results are bit-identical in all of them. All
    /// replicas must pass equally many numbers, and tensors of the same shapes.
    ///
    /// # Errors
    /// Returns an error if another replica has left the group.
    fn all_reduce(&self, tensors: Vec<Tensor<1>>, numbers: &[f64]) -> Result<(Vec<Tensor<1>>, Vec<f64>), ReplicaLost>;

    /// Returns whether a replica has left the group. Callers poll it during long work between two calls of
    /// `all_reduce`.
    fn is_broken(&self) -> bool;
}

/// Another replica has ended. Its own error is the cause to report.
#[derive(Debug, thiserror::Error)]
#[error("replica {0} has ended")]
pub struct ReplicaLost(usize);

/// All-reduce in host memory, for any device. Contributions are summed in order of rank.
pub struct HostCollective {
    rank: usize,
    world_size: usize,
    rendezvous: Arc<Rendezvous>,
}

/// State shared by all replicas, through which they exchange their contributions.
struct Rendezvous {
    state: Mutex<RendezvousState>,
    changed: Condvar,
}

/// The part of [`Rendezvous`] that the mutex protects.
struct RendezvousState {
    /// Contributions to the current round, by rank.
    contributions: Vec<Option<Contribution>>,
    /// All contributions to the last completed round, by rank.
    complete: Arc<Vec<Contribution>>,
    /// Number of completed rounds.
    rounds: usize,
    /// First replica that has left the group.
    lost_rank: Option<usize>,
}

/// Values that one replica passes to an all-reduce.
struct Contribution {
    tensors: Vec<TensorData>,
    numbers: Vec<f64>,
}

impl HostCollective {
    /// Returns one handle per replica, ordered by rank.
    pub fn new(world_size: usize) -> Vec<Self> {
        let contributions = (0..world_size).map(|_| None).collect();
        let state = RendezvousState { contributions, complete: Arc::new(Vec::new()), rounds: 0, lost_rank: None };
        let rendezvous = Arc::new(Rendezvous { state: Mutex::new(state), changed: Condvar::new() });
        (0..world_size).map(|rank| HostCollective { rank, world_size, rendezvous: rendezvous.clone() }).collect()
    }

    /// Waits for the contributions of all replicas and returns them, ordered by rank.
    fn exchange(&self, contribution: Contribution) -> Result<Arc<Vec<Contribution>>, ReplicaLost> {
        let mut state = self.rendezvous.state.lock();
        let round = state.rounds + 1;
        state.contributions[self.rank] = Some(contribution);
        if state.contributions.iter().all(Option::is_some) {
            let all = state.contributions.iter_mut().filter_map(Option::take).collect();
            state.complete = Arc::new(all);
            state.rounds += 1;
            self.rendezvous.changed.notify_all();
        }
        while state.rounds < round {
            if let Some(rank) = state.lost_rank {
                return Err(ReplicaLost(rank));
            }
            self.rendezvous.changed.wait(&mut state);
        }
        Ok(state.complete.clone())
    }
}

impl Drop for HostCollective {
    fn drop(&mut self) {
        self.rendezvous.state.lock().lost_rank.get_or_insert(self.rank);
        self.rendezvous.changed.notify_all();
    }
}

impl Collective for HostCollective {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn is_broken(&self) -> bool {
        self.rendezvous.state.lock().lost_rank.is_some()
    }

    fn all_reduce(&self, tensors: Vec<Tensor<1>>, numbers: &[f64]) -> Result<(Vec<Tensor<1>>, Vec<f64>), ReplicaLost> {
        if self.world_size == 1 {
            return Ok((tensors, numbers.to_vec()));
        }
        let devices: Vec<_> = tensors.iter().map(Tensor::device).collect();
        let tensors = tensors.into_iter().map(Tensor::into_data).collect();
        let all = self.exchange(Contribution { tensors, numbers: numbers.to_vec() })?;
        let sum = |index: usize| {
            let mut sum = f32s(&all[0].tensors[index]).to_vec();
            for contribution in &all[1..] {
                sum.iter_mut().zip(f32s(&contribution.tensors[index])).for_each(|(sum, value)| *sum += value);
            }
            Tensor::from_data(TensorData::new(sum, all[0].tensors[index].shape().clone()), &devices[index])
        };
        let number = |index: usize| all.iter().map(|contribution| contribution.numbers[index]).sum();
        Ok(((0..devices.len()).map(sum).collect(), (0..numbers.len()).map(number).collect()))
    }
}

fn f32s(data: &TensorData) -> &[f32] {
    data.as_slice().expect("gradients and statistics are f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use std::time::{Duration, Instant};

    /// Runs `replica` on `count` threads and returns the results, ordered by rank.
    fn run_threads<T: Send>(count: usize, replica: impl Fn(HostCollective) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let replica = &replica;
            let threads =
                HostCollective::new(count).into_iter().map(|collective| scope.spawn(move || replica(collective)));
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_bit_identical_in_all_replicas_for_any_timing() {
        let run = |delays: [u64; 3]| {
            run_threads(3, |collective| {
                let mut actual = Vec::new();
                for step in 0..20 {
                    std::thread::sleep(Duration::from_micros(delays[(collective.rank() + step) % 3]));
                    // Very different magnitudes, so that a different summation order would change the result.
                    let value = [1e8_f32, 1.0, -1e8][collective.rank()] + step as f32;
                    let tensor = Tensor::<1>::from_data([value, 1.0], &Device::flex());
                    let (tensors, numbers) = collective.all_reduce(vec![tensor], &[collective.rank() as f64]).unwrap();
                    let values: Vec<f32> = tensors[0].clone().into_data().iter().collect();
                    assert_eq!((values[1], numbers[0]), (3.0, 3.0));
                    actual.push(values[0].to_bits());
                }
                actual
            })
        };
        let expected = run([0, 0, 0]);
        assert!(expected.iter().all(|actual| *actual == expected[0]));
        assert_eq!(run([0, 300, 900]), expected);
        assert_eq!(run([900, 0, 100]), expected);
    }

    #[test]
    fn waiting_replicas_are_notified_when_another_ends() {
        let start = Instant::now();
        let actual = run_threads(3, |collective| {
            for step in 0..5 {
                if collective.rank() == 1 && step == 2 {
                    return Ok(());
                }
                collective.all_reduce(Vec::new(), &[1.0]).map_err(|lost| lost.to_string())?;
            }
            Ok(())
        });
        assert_eq!(actual, [Err("replica 1 has ended".to_owned()), Ok(()), Err("replica 1 has ended".to_owned())]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
