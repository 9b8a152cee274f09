//! All-reduce with NCCL, for replicas on CUDA devices of one machine.

use super::{Collective, HostCollective, ReplicaLost};
use burn::tensor::distributed::{self, ReduceOperation};
use burn::tensor::{Device, Tensor};

/// Reduces tensors from device to device with NCCL, and numbers in host memory.
pub struct NcclCollective {
    host: HostCollective,
    /// Devices of all replicas, ordered by rank.
    devices: Vec<Device>,
}

impl NcclCollective {
    /// Returns one collective per device, ordered by rank.
    pub fn new(devices: &[Device]) -> Vec<Self> {
        let host = HostCollective::new(devices.len()).into_iter();
        host.map(|host| NcclCollective { host, devices: devices.to_vec() }).collect()
    }
}

impl Collective for NcclCollective {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn world_size(&self) -> usize {
        self.host.world_size()
    }

    fn is_broken(&self) -> bool {
        self.host.is_broken()
    }

    fn all_reduce(&self, tensors: Vec<Tensor<1>>, numbers: &[f64]) -> Result<(Vec<Tensor<1>>, Vec<f64>), ReplicaLost> {
        // Reduce the numbers first: this detects a lost replica, for which NCCL would wait indefinitely.
        let (_, numbers) = self.host.all_reduce(Vec::new(), numbers)?;
        if self.world_size() == 1 {
            return Ok((tensors, numbers));
        }
        let reduced: Vec<_> = tensors
            .into_iter()
            .map(|tensor| distributed::all_reduce(tensor, ReduceOperation::Sum, self.devices.clone()))
            .collect();
        Ok((reduced.into_iter().map(|tensor| tensor.resolve()).collect(), numbers))
    }
}
