//! How replicas, each on a thread of its own, come to one result.

#[cfg(feature = "cuda")]
mod nccl;

#[cfg(feature = "cuda")]
pub use nccl::NcclCollective;

use burn::tensor::{Tensor, TensorData};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What a replica has to do with the others. All of them make the same calls in the same order.
///
/// Whoever drops theirs, by the end of a run, an error or a panic, is lost_rank: others that wait for it get [`ReplicaLost`] instead.
pub trait Collective: Send {
    /// Of this replica, from 0.
    fn rank(&self) -> usize;

    /// How many replicas there are.
    fn world_size(&self) -> usize;

    /// Tensors and numbers summed over all replicas, the same bits in each of them. Each replica brings as many of both.
    ///
    /// # Errors
    /// If a replica is lost_rank.
    fn all_reduce(&self, tensors: Vec<Tensor<1>>, numbers: &[f64]) -> Result<(Vec<Tensor<1>>, Vec<f64>), ReplicaLost>;

    /// Whether a replica is gone already, for those who have long to do until the next sum.
    fn is_broken(&self) -> bool;
}

/// Another replica ended; what it says of that is the run's error.
#[derive(Debug, thiserror::Error)]
#[error("replica {0} is gone")]
pub struct ReplicaLost(usize);

/// Through the memory of the host, summed in order of rank: for every device that has nothing better.
pub struct HostCollective {
    rank: usize,
    world_size: usize,
    rendezvous: Arc<Rendezvous>,
}

/// Where replicas meet, once for every sum.
struct Rendezvous {
    state: Mutex<RendezvousState>,
    changed: Condvar,
}

struct RendezvousState {
    /// What each replica brought to the sum that is being made.
    contributions: Vec<Option<Contribution>>,
    /// What all brought to the last whole one, and how many there were.
    complete: Arc<Vec<Contribution>>,
    rounds: usize,
    lost_rank: Option<usize>,
}

struct Contribution {
    tensors: Vec<TensorData>,
    numbers: Vec<f64>,
}

impl HostCollective {
    /// One for each replica, by rank.
    pub fn new(world_size: usize) -> Vec<Self> {
        let contributions = (0..world_size).map(|_| None).collect();
        let state = RendezvousState { contributions, complete: Arc::new(Vec::new()), rounds: 0, lost_rank: None };
        let rendezvous = Arc::new(Rendezvous { state: Mutex::new(state), changed: Condvar::new() });
        (0..world_size).map(|rank| HostCollective { rank, world_size, rendezvous: rendezvous.clone() }).collect()
    }

    /// What every replica brings, by rank.
    fn exchange(&self, contribution: Contribution) -> Result<Arc<Vec<Contribution>>, ReplicaLost> {
        let mut state = self.rendezvous.state.lock();
        let awaited = state.rounds + 1;
        state.contributions[self.rank] = Some(contribution);
        if state.contributions.iter().all(Option::is_some) {
            let all = state.contributions.iter_mut().filter_map(Option::take).collect();
            state.complete = Arc::new(all);
            state.rounds += 1;
            self.rendezvous.changed.notify_all();
        }
        while state.rounds < awaited {
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

    /// What each replica's thread returns, by rank.
    fn replicas<T: Send>(count: usize, replica: impl Fn(HostCollective) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let replica = &replica;
            let threads =
                HostCollective::new(count).into_iter().map(|collective| scope.spawn(move || replica(collective)));
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_the_same_bits_in_every_replica_whatever_their_timing() {
        let run = |delays: [u64; 3]| {
            replicas(3, |collective| {
                let mut found = Vec::new();
                for step in 0..20 {
                    std::thread::sleep(Duration::from_micros(delays[(collective.rank() + step) % 3]));
                    // Of very different sizes, so that another order of the summands would show.
                    let value = [1e8_f32, 1.0, -1e8][collective.rank()] + step as f32;
                    let tensor = Tensor::<1>::from_data([value, 1.0], &Device::flex());
                    let (tensors, numbers) = collective.all_reduce(vec![tensor], &[collective.rank() as f64]).unwrap();
                    let values: Vec<f32> = tensors[0].clone().into_data().iter().collect();
                    assert_eq!((values[1], numbers[0]), (3.0, 3.0));
                    found.push(values[0].to_bits());
                }
                found
            })
        };
        let expected = run([0, 0, 0]);
        assert!(expected.iter().all(|found| *found == expected[0]));
        assert_eq!(run([0, 300, 900]), expected);
        assert_eq!(run([900, 0, 100]), expected);
    }

    #[test]
    fn nobody_waits_for_a_replica_that_is_gone() {
        let start = Instant::now();
        let found = replicas(3, |collective| {
            for step in 0..5 {
                if collective.rank() == 1 && step == 2 {
                    return Ok(());
                }
                collective.all_reduce(Vec::new(), &[1.0]).map_err(|lost| lost.to_string())?;
            }
            Ok(())
        });
        assert_eq!(found, [Err("replica 1 is gone".to_owned()), Ok(()), Err("replica 1 is gone".to_owned())]);
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
