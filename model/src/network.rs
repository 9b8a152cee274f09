//! The network as a Burn module, for training with autodiff and as the reference for the plan. Its layers derive from
//! [`Architecture`].

mod modules;
mod norm;

use crate::architecture::{Architecture, Convolution, StemLayers};
use crate::checkpoint::Checkpoint;
use crate::preprocess::ImageBatch;
use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Initializer, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use norm::BatchNorm;
use std::collections::BTreeMap;

/// A convolution without bias, followed by a batch norm.
#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

/// A basic block (two convolutions) or bottleneck (three).
#[derive(Module, Debug)]
struct Residual {
    convolutions: Vec<ConvNorm>,
    downsample: Option<ConvNorm>,
}

/// A residual network, torchvision's `ResNet`.
#[derive(Module, Debug)]
pub struct ResNet {
    stem: ConvNorm,
    max_pool: Option<MaxPool2d>,
    stages: Vec<Vec<Residual>>,
    fc: Linear,
}

/// Options of the initialisation of a new network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Initialisation {
    /// Whether the scale of each block's last batch norm is zero, so that every block starts as the identity
    /// (Goyal et al. 2017, <https://arxiv.org/abs/1706.02677>).
    pub zero_last_norm: bool,
}

impl ConvNorm {
    fn new(layer: &Convolution, device: &Device) -> Self {
        // PyTorch's fan-out counts all output channels; Burn's KaimingNormal divides them by the number of groups.
        let fan_out = (layer.out_channels * layer.kernel * layer.kernel) as f64;
        let conv = Conv2dConfig::new([layer.in_channels, layer.out_channels], [layer.kernel; 2])
            .with_stride([layer.stride; 2])
            .with_padding(padding(layer.padding))
            .with_groups(layer.groups)
            .with_bias(false)
            .with_initializer(Initializer::Normal { mean: 0.0, std: (2.0 / fan_out).sqrt() })
            .init(device);
        ConvNorm { conv, norm: BatchNorm::new(layer.out_channels, device) }
    }

    /// Computes the convolution in the dtype of the input, and the batch norm in f32; the output has the dtype of the
    /// input.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let dtype = input.dtype();
        let weight = self.conv.weight.val();
        if weight.dtype() == dtype {
            return self.norm.forward(self.conv.forward(input));
        }
        let weight = weight.cast(dtype);
        let output = conv2d(input, weight, None, options(&self.conv));
        self.norm.forward(output.cast(DType::F32)).cast(dtype)
    }

    fn load(&mut self, layer: &Convolution, checkpoint: &Checkpoint, device: &Device) {
        let values = |name: String| checkpoint.values(&name);
        let norm = |tensor: &str| TensorData::new(values(format!("{}.{tensor}", layer.norm)), [layer.out_channels]);
        let weight = TensorData::new(values(format!("{}.weight", layer.name)), layer.weight_shape());
        self.conv.weight = Param::from_data(weight, device);
        self.norm.gamma = Param::from_data(norm("weight"), device);
        self.norm.beta = Param::from_data(norm("bias"), device);
        self.norm.running_mean = RunningState::new(Tensor::from_data(norm("running_mean"), device));
        self.norm.running_var = RunningState::new(Tensor::from_data(norm("running_var"), device));
    }

    fn save(&self, layer: &Convolution, tensors: &mut BTreeMap<String, Vec<f32>>) {
        let mut put = |name: String, data: TensorData| tensors.insert(name, data.iter::<f32>().collect());
        put(format!("{}.weight", layer.name), self.conv.weight.val().into_data());
        put(format!("{}.weight", layer.norm), self.norm.gamma.val().into_data());
        put(format!("{}.bias", layer.norm), self.norm.beta.val().into_data());
        put(format!("{}.running_mean", layer.norm), self.norm.running_mean.value_sync().into_data());
        put(format!("{}.running_var", layer.norm), self.norm.running_var.value_sync().into_data());
    }
}

impl Residual {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(input.clone()),
            None => input.clone(),
        };
        let (last, first) = self.convolutions.split_last().expect("a block has convolutions");
        let inner = first.iter().fold(input, |value, layer| relu(layer.forward(value)));
        relu(last.forward(inner) + shortcut)
    }
}

impl ResNet {
    /// Creates a network with Kaiming-normal (fan-out) convolutions, batch norms of scale one, and PyTorch's uniform
    /// initialisation of the classifier.
    pub fn new(architecture: &Architecture, initialisation: Initialisation, device: &Device) -> Self {
        let StemLayers { convolution, max_pool } = architecture.stem();
        let stages = architecture.stages().map(|blocks| {
            let blocks = blocks.iter().map(|block| {
                let mut convolutions: Vec<_> =
                    block.convolutions.iter().map(|layer| ConvNorm::new(layer, device)).collect();
                if let (true, Some(last)) = (initialisation.zero_last_norm, convolutions.last_mut()) {
                    last.norm.gamma = last.norm.gamma.clone().map(|gamma| gamma.zeros_like());
                }
                let downsample = block.downsample.as_ref().map(|layer| ConvNorm::new(layer, device));
                Residual { convolutions, downsample }
            });
            blocks.collect()
        });
        ResNet {
            stem: ConvNorm::new(&convolution, device),
            max_pool: max_pool.map(|pool| {
                let config = MaxPool2dConfig::new([pool.kernel; 2]).with_strides([pool.stride; 2]);
                config.with_padding(padding(pool.padding)).init()
            }),
            stages: stages.into(),
            fc: LinearConfig::new(architecture.features(), architecture.classes).init(device),
        }
    }

    /// Creates a network with the weights and running statistics of a checkpoint.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Self {
        let architecture = checkpoint.architecture();
        let mut network = ResNet::new(&architecture, Initialisation::default(), device);
        for (layer, module) in architecture.convolutions().iter().zip(network.convolutions_mut()) {
            module.load(layer, checkpoint, device);
        }
        // The weights are copied to Burn's row-major layout instead of being viewed as transposed, since matrix
        // products of views add up their terms in another order.
        let (classes, features) = (architecture.classes, architecture.features());
        let values = checkpoint.values("fc.weight");
        let transposed = (0..features).flat_map(|feature| (0..classes).map(move |class| class * features + feature));
        let weight = TensorData::new(transposed.map(|index| values[index]).collect::<Vec<_>>(), [features, classes]);
        network.fc.weight = Param::from_data(weight, device);
        let bias = TensorData::new(checkpoint.values("fc.bias"), [architecture.classes]);
        network.fc.bias = Some(Param::from_data(bias, device));
        network
    }

    /// Returns weights and running statistics by torchvision's names, as [`Checkpoint::new`] accepts them.
    /// `architecture` must be the one that the network was created with.
    pub fn tensors(&self, architecture: &Architecture) -> BTreeMap<String, Vec<f32>> {
        let mut tensors = BTreeMap::new();
        for (layer, module) in architecture.convolutions().iter().zip(self.convolutions()) {
            module.save(layer, &mut tensors);
        }
        let weight = self.fc.weight.val().transpose().into_data();
        tensors.insert("fc.weight".to_owned(), weight.iter::<f32>().collect());
        let bias = self.fc.bias.as_ref().expect("the classifier has a bias").val().into_data();
        tensors.insert("fc.bias".to_owned(), bias.iter::<f32>().collect());
        tensors
    }

    /// Returns the logits `[batch, classes]` of normalised images `[batch, 3, height, width]`. Batch norms use the
    /// statistics of the batch if the network is on an autodiff device, otherwise the running ones.
    ///
    /// For images in f16 or bf16, convolutions compute in that dtype; weights, norms, classifier and logits are f32.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_with_taps(images).0
    }

    /// Returns the logits, and the outputs of the stem and of each of the four stages.
    pub fn forward_with_taps(&self, images: Tensor<4>) -> (Tensor<2>, Vec<Tensor<4>>) {
        let mut value = relu(self.stem.forward(images));
        if let Some(pool) = &self.max_pool {
            value = pool.forward(value);
        }
        let mut taps = vec![value.clone()];
        for blocks in &self.stages {
            value = blocks.iter().fold(value, |value, block| block.forward(value));
            taps.push(value.clone());
        }
        let value = if value.dtype() == DType::F32 { value } else { value.cast(DType::F32) };
        let features = value.mean_dims(&[2, 3]).flatten(1, 3);
        (self.classify(features), taps)
    }

    /// Returns the logits `[batch, classes]` of features `[batch, features]`: outputs of the last stage, averaged
    /// over its pixels.
    pub fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        self.fc.forward(features)
    }

    /// Iterates over the convolutions in the order of [`Architecture::convolutions`].
    fn convolutions(&self) -> impl Iterator<Item = &ConvNorm> {
        let blocks = self.stages.iter().flatten();
        std::iter::once(&self.stem).chain(blocks.flat_map(|block| block.convolutions.iter().chain(&block.downsample)))
    }

    fn convolutions_mut(&mut self) -> impl Iterator<Item = &mut ConvNorm> {
        let blocks = self.stages.iter_mut().flatten();
        let blocks = blocks.flat_map(|block| block.convolutions.iter_mut().chain(&mut block.downsample));
        std::iter::once(&mut self.stem).chain(blocks)
    }
}

/// Normalises a batch to `[batch, 3, height, width]` on the device with torchvision's arithmetic,
/// `(pixel / 255 - mean) / std`.
pub fn normalise(batch: &ImageBatch, device: &Device) -> Tensor<4> {
    let [count, height, width] = batch.shape();
    let shape = [count, height, width, 3];
    // WGSL has no 8-bit type; such devices receive the pixels as floats.
    let pixels = if device.supports_dtype(DType::U8) {
        let data = TensorData::new(batch.pixels().to_vec(), shape);
        Tensor::<4, Int>::from_data(data, (device, DType::U8)).float()
    } else {
        let floats: Vec<f32> = batch.pixels().iter().copied().map(f32::from).collect();
        Tensor::from_data(TensorData::new(floats, shape), device)
    };
    let per_channel = |values: [f32; 3]| Tensor::<1>::from_data(values, device).reshape([1, 3, 1, 1]);
    let pixels = pixels.permute([0, 3, 1, 2]) / 255.0;
    (pixels - per_channel(batch.mean())) / per_channel(batch.std())
}

fn options(conv: &Conv2d) -> ConvOptions<2> {
    let PaddingConfig2d::Explicit(top, left, ..) = conv.padding else { unreachable!("every padding is explicit") };
    ConvOptions::new(conv.stride, [top, left], conv.dilation, conv.groups)
}

fn padding(size: usize) -> PaddingConfig2d {
    PaddingConfig2d::Explicit(size, size, size, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_equals_torchvision() {
        let (mean, std) = ([0.5, 0.25, 0.0], [0.5, 0.25, 1.0]);
        let batch = ImageBatch::new(vec![0, 51, 102, 255, 204, 153], [1, 1, 2], mean, std).unwrap();
        let normalised = normalise(&batch, &Device::flex());
        assert_eq!(normalised.dims(), [1, 3, 1, 2]);
        let values: Vec<f32> = normalised.into_data().iter().collect();
        let expected = [-1.0, 1.0, -0.2, 2.2, 0.4, 0.6];
        assert!(values.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{values:?}");
    }
}
