//! Data-parallel training: replicas of a network, one thread and one device each, synchronised by all-reduce.

mod collective;
mod devices;
mod run;

pub use collective::{Collective, HostCollective, ReplicaLost};
pub use devices::{ReplicaDevice, TrainingBackend, collectives, replica_devices};
pub use run::run_replicas;
