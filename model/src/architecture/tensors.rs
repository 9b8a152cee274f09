//! Quantities derived from the layers: names and shapes of tensors, parameter counts, multiply-adds.

use super::{Architecture, Convolution, StemLayers};

/// The role of a tensor in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Weight of a convolution or of the classifier. Matrices make up nearly all bytes, and only they can be int8.
    Matrix,
    /// Scale or shift of a batch norm, or bias of the classifier.
    Vector,
    /// Running mean or variance of a batch norm: stored, but not trained.
    Statistic,
}

/// Name and shape of a tensor in torchvision's state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: TensorKind,
}

impl Architecture {
    /// Returns name and shape of every tensor of torchvision's state dict, except for the counters
    /// `num_batches_tracked`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let spec = |name: String, shape: &[usize], kind| TensorSpec { name, shape: shape.to_vec(), kind };
        let mut tensors = Vec::new();
        for convolution in self.convolutions() {
            let (norm, channels) = (&convolution.norm, [convolution.out_channels]);
            tensors.extend([
                spec(format!("{}.weight", convolution.name), &convolution.weight_shape(), TensorKind::Matrix),
                spec(format!("{norm}.weight"), &channels, TensorKind::Vector),
                spec(format!("{norm}.bias"), &channels, TensorKind::Vector),
                spec(format!("{norm}.running_mean"), &channels, TensorKind::Statistic),
                spec(format!("{norm}.running_var"), &channels, TensorKind::Statistic),
            ]);
        }
        tensors.push(spec("fc.weight".to_owned(), &[self.classes, self.features()], TensorKind::Matrix));
        tensors.push(spec("fc.bias".to_owned(), &[self.classes], TensorKind::Vector));
        tensors
    }

    /// Returns the number of trainable parameters: PyTorch's `sum(p.numel() for p in model.parameters())`.
    pub fn parameter_count(&self) -> usize {
        let trained = self.tensors().into_iter().filter(|tensor| tensor.kind != TensorKind::Statistic);
        trained.map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }

    /// Returns the number of multiply-adds of the convolutions and the classifier for one image of `size` x `size`;
    /// torchvision publishes it as GFLOPS.
    pub fn multiply_adds(&self, size: usize) -> u64 {
        let StemLayers { convolution, max_pool } = self.stem();
        let mut size = convolution.output_size(size);
        let mut sum = multiply_adds(&convolution, size);
        size = max_pool.map_or(size, |pool| pool.output_size(size));
        for block in self.stages().into_iter().flatten() {
            let input = size;
            for convolution in &block.convolutions {
                size = convolution.output_size(size);
                sum += multiply_adds(convolution, size);
            }
            if let Some(downsample) = &block.downsample {
                sum += multiply_adds(downsample, downsample.output_size(input));
            }
        }
        sum + (self.features() * self.classes) as u64
    }
}

fn multiply_adds(convolution: &Convolution, output_size: usize) -> u64 {
    (convolution.weight_shape().iter().product::<usize>() * output_size * output_size) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torchvision's published numbers for 1000 classes: parameters, and GFLOPS for images of 224x224 (rounded to 1e-2
    /// in its documentation).
    #[rustfmt::skip]
    const PUBLISHED: [(&str, usize, f64); 10] = [
        ("resnet18",          11_689_512,  1.814),
        ("resnet34",          21_797_672,  3.664),
        ("resnet50",          25_557_032,  4.089),
        ("resnet101",         44_549_160,  7.801),
        ("resnet152",         60_192_808, 11.514),
        ("resnext50_32x4d",   25_028_904,  4.230),
        ("resnext101_32x8d",  88_791_336, 16.414),
        ("resnext101_64x4d",  83_455_272, 15.460),
        ("wide_resnet50_2",   68_883_240, 11.398),
        ("wide_resnet101_2", 126_886_696, 22.753),
    ];

    #[test]
    fn counts_equal_those_published_by_torchvision() {
        for (name, parameters, gflops) in PUBLISHED {
            let architecture = Architecture::new(name, 1000).unwrap();
            assert_eq!(architecture.parameter_count(), parameters, "{name}");
            let ours = architecture.multiply_adds(224) as f64 / 1e9;
            assert!((ours - gflops).abs() < 6e-4, "{name}: {ours} instead of {gflops}");
        }
    }

    #[test]
    fn v1_has_the_same_tensors_and_fewer_multiply_adds() {
        let [v1, v1_5] = ["resnet50_v1", "resnet50"].map(|name| Architecture::new(name, 1000).unwrap());
        assert_eq!(v1.tensors(), v1_5.tensors());
        assert!(v1.multiply_adds(224) < v1_5.multiply_adds(224));
    }
}
