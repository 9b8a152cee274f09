//! The engine for all devices of Burn: flex, CUDA, and wgpu on Vulkan or, in a page, WebGPU. Except for [`open`],
//! Burn's types do not appear outside this file.

use super::{Activation, Device, DeviceError, EngineError, Input, Logits, Output};
use crate::architecture::MaxPool;
use crate::network::normalise;
use crate::plan::{FoldedConvolution, Linear, Operation, Plan, Tap, TapValues, ValueId};
use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Tensor, TensorData};

/// A plan whose weights are on a device.
pub(super) struct BurnEngine {
    name: Device,
    device: burn::tensor::Device,
    steps: Vec<Step>,
    tap_values: TapValues,
    /// Index of the last step that reads each value, after which the value is dropped.
    last_reads: Vec<Option<usize>>,
    classes: usize,
}

/// An [`Operation`] whose weights are tensors on the device.
enum Step {
    Convolution {
        input: ValueId,
        residual: Option<ValueId>,
        relu: bool,
        weight: Tensor<4>,
        bias: Tensor<1>,
        options: ConvOptions<2>,
    },
    MaxPool {
        input: ValueId,
        pool: MaxPool,
    },
    GlobalAveragePool {
        input: ValueId,
    },
    Linear {
        input: ValueId,
        weight: Tensor<2>,
        bias: Tensor<2>,
    },
}

impl BurnEngine {
    pub(super) async fn prepare(plan: Plan, name: Device) -> Result<Self, EngineError> {
        let device = open(name).await?;
        let tap_values = plan.tap_values().clone();
        let last_reads = plan.last_reads();
        let classes = plan.architecture.classes;
        let steps = plan.operations.into_iter().map(|operation| Step::new(operation, &device)).collect();
        Ok(BurnEngine { name, device, steps, tap_values, last_reads, classes })
    }

    pub(super) fn tap_values(&self) -> &TapValues {
        &self.tap_values
    }

    pub(super) async fn run(&self, input: &Input, taps: &[Tap]) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        let images = match input {
            Input::Pixels(pixels) => normalise(pixels, &self.device),
            Input::Normalised(images) => {
                let data = TensorData::new(images.values().to_vec(), [batch, 3, height, width]);
                Tensor::from_data(data, &self.device)
            }
        };

        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.steps.len() + 1];
        values[Plan::INPUT] = Some(images);
        let mut activations: Vec<Option<Tensor<4>>> = vec![None; taps.len()];
        for (index, step) in self.steps.iter().enumerate() {
            let output = step.run(&values);
            for (activation, tap) in activations.iter_mut().zip(taps) {
                if self.tap_values.get(*tap) == Some(index + 1) {
                    *activation = Some(output.clone());
                }
            }
            values[index + 1] = Some(output);
            for (value, last_read) in values.iter_mut().zip(&self.last_reads) {
                if *last_read == Some(index) {
                    *value = None;
                }
            }
        }

        let logits = values.pop().flatten().expect("the last step writes the logits");
        let logits = Logits::new(self.read(logits).await?.0, [batch, self.classes], self.name)?;
        let mut output = Output { logits, activations: Vec::with_capacity(taps.len()) };
        for (tap, tensor) in taps.iter().zip(activations) {
            let (values, shape) = self.read(tensor.expect("every tap is written by some step")).await?;
            output.activations.push(Activation { tap: *tap, values, shape });
        }
        Ok(output)
    }

    async fn read(&self, tensor: Tensor<4>) -> Result<(Vec<f32>, [usize; 4]), EngineError> {
        let shape = tensor.dims();
        let data = tensor.into_data_async().await;
        let data = data.map_err(|error| EngineError::Failed { device: self.name, reason: error.to_string() })?;
        Ok((data.iter::<f32>().collect(), shape))
    }
}

impl Step {
    fn new(operation: Operation, device: &burn::tensor::Device) -> Self {
        match operation {
            Operation::Convolution(FoldedConvolution { input, residual, relu, layer, weight, bias, .. }) => {
                let weight = TensorData::new(weight, layer.weight_shape());
                let padding = [layer.padding; 2];
                Step::Convolution {
                    input,
                    residual,
                    relu,
                    weight: Tensor::from_data(weight, device),
                    bias: Tensor::from_data(TensorData::new(bias, [layer.out_channels]), device),
                    options: ConvOptions::new([layer.stride; 2], padding, [1, 1], layer.groups),
                }
            }
            Operation::MaxPool { input, pool, .. } => Step::MaxPool { input, pool },
            Operation::GlobalAveragePool { input, .. } => Step::GlobalAveragePool { input },
            Operation::Linear(Linear { input, weight, bias, .. }) => {
                let (classes, features) = (bias.len(), weight.len() / bias.len());
                let weight = Tensor::<2>::from_data(TensorData::new(weight, [classes, features]), device);
                let bias = Tensor::from_data(TensorData::new(bias, [1, classes]), device);
                Step::Linear { input, weight: weight.transpose(), bias }
            }
        }
    }

    /// Computes the output of the step. Flat values have the shape `[batch, features, 1, 1]` here.
    fn run(&self, values: &[Option<Tensor<4>>]) -> Tensor<4> {
        let value = |index: ValueId| values[index].clone().expect("a value is kept until its last read");
        match self {
            Step::Convolution { input, residual, relu: activate, weight, bias, options } => {
                let mut output = conv2d(value(*input), weight.clone(), Some(bias.clone()), options.clone());
                if let Some(residual) = residual {
                    output = output + value(*residual);
                }
                if *activate { relu(output) } else { output }
            }
            Step::MaxPool { input, pool } => {
                let options = MaxPoolOptions::new([pool.kernel; 2]).with_stride([pool.stride; 2]);
                max_pool2d(value(*input), options.with_padding([pool.padding; 2]))
            }
            Step::GlobalAveragePool { input } => value(*input).mean_dims(&[2, 3]),
            Step::Linear { input, weight, bias } => {
                let output = value(*input).flatten::<2>(1, 3).matmul(weight.clone()) + bias.clone();
                let [batch, classes] = output.dims();
                output.reshape([batch, classes, 1, 1])
            }
        }
    }
}

/// Opens the device of Burn that belongs to a device name.
///
/// # Errors
/// Returns [`DeviceError`] if this build does not support the device or the machine does not have it.
pub async fn open(name: Device) -> Result<burn::tensor::Device, DeviceError> {
    match name {
        Device::Flex => Ok(burn::tensor::Device::flex()),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => enumerated(name, burn::tensor::DeviceType::Cuda, index),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => enumerated(name, burn::tensor::DeviceType::Wgpu, index),
        #[cfg(all(feature = "burn-webgpu", target_arch = "wasm32"))]
        Device::Wgpu(_) => {
            let options = burn::tensor::Device::wgpu_options().graphics_api(burn::tensor::wgpu::WgpuBackend::WebGpu);
            options
                .init_async()
                .await
                .map_err(|error| DeviceError::NotFound { device: name, reason: error.to_string() })
        }
        #[allow(unreachable_patterns)] // if all features are enabled
        _ => Err(DeviceError::NotCompiledIn(name)),
    }
}

/// Returns device number `index` among the machine's devices of a kind.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn enumerated(name: Device, kind: burn::tensor::DeviceType, index: usize) -> Result<burn::tensor::Device, DeviceError> {
    let devices = burn::tensor::Device::enumerate(kind).into_vec();
    let not_found =
        || DeviceError::NotFound { device: name, reason: format!("the machine has {} of this kind", devices.len()) };
    devices.get(index).cloned().ok_or_else(not_found)
}
