//! An exponential moving average of a network: torchvision's `ExponentialMovingAverage`, running statistics included.

use super::network_tensors::{Which, values, with_values};
use burn::module::Module;
use burn::tensor::Tensor;
use model::network::ResNet;

/// The average of a network's tensors over its last steps.
pub struct Average {
    /// In the order of [`values`].
    values: Vec<Tensor<1>>,
    /// What the average keeps of itself.
    decay: f64,
    /// Steps from one average to the next.
    every: usize,
    /// Steps at the beginning, of a warm-up, that the average copies.
    copied: usize,
}

impl Average {
    /// `network` is the average so far.
    pub fn new(network: &ResNet, decay: f64, every: usize, copied: usize) -> Self {
        Average { values: values(network, Which::All), decay, every, copied }
    }

    /// After so many steps, the last one of which made `network`.
    pub fn update(&mut self, network: &ResNet, steps: usize) {
        if !steps.is_multiple_of(self.every) {
            return;
        }
        let new = values(network, Which::All);
        // As in PyTorch, the first network is no average of anything.
        if steps <= self.copied.max(self.every) {
            self.values = new;
            return;
        }
        let old = std::mem::take(&mut self.values);
        let mixed = |(old, new): (Tensor<1>, Tensor<1>)| old * self.decay + new * (1.0 - self.decay);
        self.values = old.into_iter().zip(new).map(mixed).collect();
    }

    /// The average was `network` when a training stopped that goes on now.
    pub fn restore(&mut self, network: &ResNet) {
        self.values = values(network, Which::All);
    }

    /// A network of the average, without autodiff; `network` lends it all but its values.
    pub fn network(&self, network: &ResNet) -> ResNet {
        with_values(network.valid(), Which::All, self.values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::start;
    use super::*;
    use burn::tensor::Device;

    /// Of networks whose tensors are all the number of their step: copied while it warms up, and at first, then mixed.
    #[test]
    fn averages_are_taken_every_so_many_steps_behind_the_warm_up() {
        let network = ResNet::from_checkpoint(&start(), &Device::flex());
        let at = |step: usize| {
            let of = |value: Tensor<1>| value.zeros_like() + step as f64;
            with_values(network.clone(), Which::All, values(&network, Which::All).into_iter().map(of).collect())
        };
        let run = |every: usize, copied: usize| -> Vec<f32> {
            let mut average = Average::new(&at(0), 0.5, every, copied);
            let after = |step| {
                average.update(&at(step), step);
                average.values[0].clone().into_data().iter::<f32>().next().unwrap()
            };
            (1..=6).map(after).collect()
        };
        assert_eq!(run(1, 0), [1.0, 1.5, 2.25, 3.125, 4.0625, 5.03125]);
        assert_eq!(run(2, 0), [0.0, 2.0, 2.0, 3.0, 3.0, 4.5]);
        assert_eq!(run(2, 4), [0.0, 2.0, 2.0, 4.0, 4.0, 5.0]);
    }
}
