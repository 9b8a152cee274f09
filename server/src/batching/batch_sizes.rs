//! The batch sizes that an engine runs.

use model::engine::Device;

/// Batch sizes of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSizes {
    /// Largest batch.
    pub max: usize,
    /// Whether batches are padded to the next power of two, for devices that compile or allocate for each size.
    pub padded: bool,
}

impl BatchSizes {
    /// Returns the sizes for a device; only batches on the CPU are not padded.
    pub fn for_device(device: Device, max: usize) -> Self {
        BatchSizes { max, padded: !matches!(device, Device::Cpu | Device::Flex) }
    }

    /// Returns the size to which a batch of `images` is padded.
    pub fn padded_size(self, images: usize) -> usize {
        if self.padded { images.next_power_of_two().min(self.max) } else { images }
    }

    /// Returns the sizes to warm up after 1, smallest first.
    pub fn warmup_sizes(self) -> impl Iterator<Item = usize> {
        let powers = std::iter::successors(Some(1usize), |size| size.checked_mul(2));
        let sizes = powers.skip(1).take_while(move |&size| size < self.max).chain([self.max]);
        sizes.filter(move |&size| self.padded && size > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warmup_sizes(device: Device, max: usize) -> Vec<usize> {
        BatchSizes::for_device(device, max).warmup_sizes().collect()
    }

    #[test]
    fn gpu_batches_are_padded_to_powers_of_two() {
        let sizes = BatchSizes::for_device(Device::Cuda(0), 24);
        assert_eq!([1, 2, 3, 5, 9, 16, 17, 24].map(|images| sizes.padded_size(images)), [1, 2, 4, 8, 16, 16, 24, 24]);
        assert_eq!(warmup_sizes(Device::Cuda(0), 24), [2, 4, 8, 16, 24]);
        assert_eq!(warmup_sizes(Device::WebGpu(0), 8), [2, 4, 8]);
        assert!(warmup_sizes(Device::WebGpu(0), 1).is_empty());
    }

    #[test]
    fn cpu_batches_are_not_padded() {
        assert_eq!(BatchSizes::for_device(Device::Cpu, 8).padded_size(3), 3);
        assert!(warmup_sizes(Device::Cpu, 8).is_empty());
    }
}
