//! Selection of the devices of the replicas, and of the collective between them.

use super::collective::{Collective, HostCollective};
use anyhow::{Result, bail};
use model::engine::{self, Device};
use pollster::block_on;
use std::num::NonZero;
use std::thread;

/// Device of a replica: its name on the command line, and what trains on it.
#[derive(Clone, Debug)]
pub struct ReplicaDevice {
    pub name: Device,
    pub backend: TrainingBackend,
}

/// Implementation of training.
#[derive(Clone, Debug)]
pub enum TrainingBackend {
    /// The kernels of the CPU engine.
    Cpu {
        /// Number of threads; by default one per core.
        threads: Option<NonZero<usize>>,
    },
    /// Burn, on one of its devices.
    Burn(burn::tensor::Device),
}

/// Returns one device per replica: the first `gpus` CUDA devices, or `replicas` times `device` (default: once). If
/// `gpus` is 0, the CPU is used.
///
/// # Errors
/// Returns an error if fewer than `gpus` CUDA devices are available, naming those that are, or if `device` cannot be
/// used for training.
pub fn replica_devices(
    device: Device,
    gpus: Option<usize>,
    replicas: Option<NonZero<usize>>,
) -> Result<Vec<ReplicaDevice>> {
    if let Some(gpus) = gpus.filter(|gpus| *gpus > 0) {
        let devices: Vec<_> = (0..).map_while(|index| open(Device::Cuda(index)).ok()).take(gpus).collect();
        if devices.len() < gpus {
            // The error explains why no further device is available, e.g. that the program was built without CUDA.
            let reason = open(Device::Cuda(devices.len())).err().map(|error| error.to_string()).unwrap_or_default();
            let names: Vec<_> = devices.iter().map(|device| device.name.to_string()).collect();
            let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!(
                "--gpus {gpus}: available CUDA devices: {available} ({reason}); use --device cpu to train without a GPU"
            );
        }
        return Ok(devices);
    }
    let name = if gpus.is_some() { Device::Cpu } else { device };
    let (mut device, replicas) = (open(name)?, replicas.map_or(1, NonZero::get));
    if let (TrainingBackend::Cpu { threads }, 2..) = (&mut device.backend, replicas) {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        *threads = NonZero::new((cores / replicas).max(1));
    }
    Ok(vec![device; replicas])
}

fn open(name: Device) -> Result<ReplicaDevice> {
    let backend = match name {
        Device::Cpu => TrainingBackend::Cpu { threads: None },
        Device::WebGpu(_) => bail!("training is not supported on {name}; use cpu, flex, wgpu[:N] or cuda[:N]"),
        _ => TrainingBackend::Burn(block_on(engine::burn_device(name))?),
    };
    Ok(ReplicaDevice { name, backend })
}

/// Returns one collective per replica, ordered by rank: NCCL if all devices are CUDA devices, otherwise host memory.
pub fn collectives(devices: &[ReplicaDevice]) -> Vec<Box<dyn Collective>> {
    #[cfg(feature = "cuda")]
    if devices.iter().all(|device| matches!(device.name, Device::Cuda(_))) {
        let devices = devices.iter().map(|device| match &device.backend {
            TrainingBackend::Burn(device) => device.clone(),
            TrainingBackend::Cpu { .. } => unreachable!("Burn trains on CUDA devices"),
        });
        let devices: Vec<_> = devices.collect();
        return super::collective::NcclCollective::new(&devices).into_iter().map(|one| Box::new(one) as _).collect();
    }
    HostCollective::new(devices.len()).into_iter().map(|one| Box::new(one) as _).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_one_device_per_replica() {
        let names = |device, gpus, replicas| -> Vec<_> {
            replica_devices(device, gpus, NonZero::new(replicas)).unwrap().iter().map(|device| device.name).collect()
        };
        assert_eq!(names(Device::Cpu, None, 3), [Device::Cpu; 3]);
        assert_eq!(names(Device::Flex, Some(0), 1), [Device::Cpu]);
        let error = replica_devices(Device::Cpu, Some(64), None).unwrap_err().to_string();
        assert!(error.starts_with("--gpus 64: available CUDA devices: "), "{error}");
        let error = replica_devices(Device::WebGpu(0), None, None).unwrap_err().to_string();
        assert!(error.contains("training is not supported on webgpu"), "{error}");
    }
}
