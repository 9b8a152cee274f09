//! Replicas of a network on devices and threads of their own, which come to one result.

mod collective;
mod devices;
mod run;

pub use collective::{Collective, HostCollective, ReplicaLost};
pub use devices::{ReplicaDevice, collectives, replica_devices};
pub use run::run_replicas;
