//! NVIDIA's collective communications, for replicas on CUDA devices of this machine.

use super::{Collective, HostCollective, ReplicaLost};
use burn::tensor::distributed::{self, ReduceOperation};
use burn::tensor::{Device, Tensor};

/// Tensors go from device to device, numbers through the memory of the host.
pub struct NcclCollective {
    host: HostCollective,
    /// Of all replicas, by rank.
    devices: Vec<Device>,
}

impl NcclCollective {
    /// One for each of the devices, by rank.
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
        // First: a replica that is gone shows here, while NCCL would wait for it for ever.
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
