//! Where replicas compute.

use super::collective::{Collective, HostCollective};
use anyhow::{Result, bail};
use model::engine::{self, Device};
use pollster::block_on;
use std::num::NonZero;

/// Where a replica computes, by our name for it and as Burn's.
#[derive(Clone, Debug)]
pub struct ReplicaDevice {
    pub name: Device,
    pub device: burn::tensor::Device,
}

/// One for each replica: the first `gpus` CUDA devices, or `replicas` times `device`, by default once.
///
/// # Errors
/// If there are fewer, with those that there are.
pub fn replica_devices(
    device: Device,
    gpus: Option<usize>,
    replicas: Option<NonZero<usize>>,
) -> Result<Vec<ReplicaDevice>> {
    if let Some(gpus) = gpus.filter(|gpus| *gpus > 0) {
        let found: Vec<_> = (0..).map_while(|index| open(Device::Cuda(index)).ok()).take(gpus).collect();
        if found.len() < gpus {
            // Says why, if the program has no CUDA at all.
            let reason = open(Device::Cuda(found.len())).err().map(|error| error.to_string()).unwrap_or_default();
            let names: Vec<_> = found.iter().map(|device| device.name.to_string()).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("--gpus {gpus}: there are {there} ({reason}); --device cpu trains without");
        }
        return Ok(found);
    }
    let device = if gpus.is_some() { Device::Cpu } else { device };
    Ok(vec![open(device)?; replicas.map_or(1, NonZero::get)])
}

fn open(name: Device) -> Result<ReplicaDevice> {
    // Our own engine for the CPU does not learn; Burn's does.
    let device = match name {
        Device::Cpu => burn::tensor::Device::flex(),
        Device::WebGpu(_) => bail!("networks are not trained on {name}, but on cpu, flex, wgpu[:N] and cuda[:N]"),
        _ => block_on(engine::burn_device(name))?,
    };
    Ok(ReplicaDevice { name, device })
}

/// How replicas on these devices come to one result, by rank.
pub fn collectives(devices: &[ReplicaDevice]) -> Vec<Box<dyn Collective>> {
    #[cfg(feature = "cuda")]
    if devices.iter().all(|device| matches!(device.name, Device::Cuda(_))) {
        let devices: Vec<_> = devices.iter().map(|device| device.device.clone()).collect();
        return super::collective::NcclCollective::new(&devices).into_iter().map(|one| Box::new(one) as _).collect();
    }
    HostCollective::new(devices.len()).into_iter().map(|one| Box::new(one) as _).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_has_a_device() {
        let names = |device, gpus, replicas| -> Vec<_> {
            replica_devices(device, gpus, NonZero::new(replicas)).unwrap().iter().map(|device| device.name).collect()
        };
        assert_eq!(names(Device::Cpu, None, 3), [Device::Cpu; 3]);
        assert_eq!(names(Device::Flex, Some(0), 1), [Device::Cpu]);
        let error = replica_devices(Device::Cpu, Some(64), None).unwrap_err().to_string();
        assert!(error.starts_with("--gpus 64: there are"), "{error}");
        let error = replica_devices(Device::WebGpu(0), None, None).unwrap_err().to_string();
        assert!(error.contains("not trained on webgpu"), "{error}");
    }
}
