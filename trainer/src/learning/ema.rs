//! An exponential moving average of a network: torchvision's `ExponentialMovingAverage`, running statistics included.

use super::network_tensors::{TensorFilter, flat_tensors, with_flat_tensors};
use burn::module::Module;
use burn::tensor::Tensor;
use model::network::ResNet;

/// The average of a network's tensors over its last steps.
pub struct ExponentialMovingAverage {
    /// In the order of [`flat_tensors`].
    values: Vec<Tensor<1>>,
    /// What the average keeps of itself.
    decay: f64,
    /// Steps from one average to the next.
    interval: usize,
    /// Steps at the beginning, of a warm-up, that the average copies.
    warmup_steps: usize,
}

impl ExponentialMovingAverage {
    /// `network` is the average so far.
    pub fn new(network: &ResNet, decay: f64, interval: usize, warmup_steps: usize) -> Self {
        ExponentialMovingAverage { values: flat_tensors(network, TensorFilter::All), decay, interval, warmup_steps }
    }

    /// After so many steps, the last one of which made `network`.
    pub fn update(&mut self, network: &ResNet, steps: usize) {
        if !steps.is_multiple_of(self.interval) {
            return;
        }
        let new = flat_tensors(network, TensorFilter::All);
        // As in PyTorch, the first network is no average of anything.
        if steps <= self.warmup_steps.max(self.interval) {
            self.values = new;
            return;
        }
        let old = std::mem::take(&mut self.values);
        let blend = |(old, new): (Tensor<1>, Tensor<1>)| old * self.decay + new * (1.0 - self.decay);
        self.values = old.into_iter().zip(new).map(blend).collect();
    }

    /// The average was `network` when a training stopped that goes on now.
    pub fn restore(&mut self, network: &ResNet) {
        self.values = flat_tensors(network, TensorFilter::All);
    }

    /// A network of the average, without autodiff; `network` lends it all but its values.
    pub fn network(&self, network: &ResNet) -> ResNet {
        with_flat_tensors(network.valid(), TensorFilter::All, self.values.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::small_checkpoint;
    use super::*;
    use burn::tensor::Device;

    /// Of networks whose tensors are all the number of their step: copied while it warms up, and at first, then mixed.
    #[test]
    fn averages_are_taken_every_so_many_steps_behind_the_warm_up() {
        let network = ResNet::from_checkpoint(&small_checkpoint(), &Device::flex());
        let at = |step: usize| {
            let of = |value: Tensor<1>| value.zeros_like() + step as f64;
            with_flat_tensors(
                network.clone(),
                TensorFilter::All,
                flat_tensors(&network, TensorFilter::All).into_iter().map(of).collect(),
            )
        };
        let run = |interval: usize, warmup_steps: usize| -> Vec<f32> {
            let mut average = ExponentialMovingAverage::new(&at(0), 0.5, interval, warmup_steps);
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
