//! How many images go through an engine together.

use model::engine::Device;

/// The sizes of batches that a device is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The largest batch.
    pub most: usize,
    /// Whether batches are filled up to the next power of two, because the device compiles or allocates for each size.
    pub rounded: bool,
}

impl Sizes {
    /// Those of a device: the CPU takes any size as it is.
    pub fn of(device: Device, most: usize) -> Self {
        Sizes { most, rounded: !matches!(device, Device::Cpu | Device::Flex) }
    }

    /// How many images a batch of `images` is filled up to.
    pub fn filled(self, images: usize) -> usize {
        if self.rounded { images.next_power_of_two().min(self.most) } else { images }
    }

    /// The sizes that have to be warmed up beside 1, smallest first.
    pub fn cold(self) -> impl Iterator<Item = usize> {
        let doubled = std::iter::successors(Some(1usize), |size| size.checked_mul(2));
        let cold = doubled.skip(1).take_while(move |&size| size < self.most).chain([self.most]);
        cold.filter(move |&size| self.rounded && size > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cold(device: Device, most: usize) -> Vec<usize> {
        Sizes::of(device, most).cold().collect()
    }

    #[test]
    fn a_gpu_has_few_sizes() {
        let sizes = Sizes::of(Device::Cuda(0), 24);
        assert_eq!([1, 2, 3, 5, 9, 16, 17, 24].map(|images| sizes.filled(images)), [1, 2, 4, 8, 16, 16, 24, 24]);
        assert_eq!(cold(Device::Cuda(0), 24), [2, 4, 8, 16, 24]);
        assert_eq!(cold(Device::WebGpu(0), 8), [2, 4, 8]);
        assert!(cold(Device::WebGpu(0), 1).is_empty());
    }

    #[test]
    fn the_cpu_takes_any() {
        assert_eq!(Sizes::of(Device::Cpu, 8).filled(3), 3);
        assert!(cold(Device::Cpu, 8).is_empty());
    }
}
